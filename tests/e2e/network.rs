//! A network of a test's own (`unshare --net`): nothing outside of it is touched or can be reached, and the kernel takes it
//! away with the last process in it.

use std::process::{Command, Output};

/// What such a test needs.
pub const HOW: &str = "this test works in a network namespace of its own. It needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN), \
                   util-linux, and: apt-get install -y --no-install-recommends nftables iproute2";

/// A network with nothing but its own loopback; the command's words follow.
pub const OWN: [&str; 6] = ["unshare", "--net", "sh", "-c", IN_IT, "env"];
const IN_IT: &str = "PATH=\"$PATH:/usr/sbin:/sbin\"; ip link set lo up && exec \"$0\" \"$@\"";

/// Runs to the end.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: {HOW}"))
}

/// Where it can't work, the test says what is missing, instead of waiting for what never comes.
pub fn is_needed() {
    let [program, rest @ ..] = OWN;
    let tried = output(Command::new(program).args(rest).args(["nft", "list", "ruleset"]));
    assert!(tried.status.success(), "{}: {HOW}", String::from_utf8_lossy(&tried.stderr).trim());
}

//! An error with its causes as one line, for logs, statuses and answers, where no reader can walk the chain.

use std::error::Error;

/// The error and its causes, outermost first. A cause that its error has quoted already is not said twice.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;
    use std::{error::Error, fmt, io};

    #[derive(Debug)]
    struct Outer(&'static str, io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.1)
        }
    }

    #[test]
    fn each_cause_is_told_once() {
        let disk = || io::Error::other("disk full");
        assert_eq!(chain(&Outer("can't append", disk())), "can't append: disk full");
        assert_eq!(chain(&Outer("can't append: disk full", disk())), "can't append: disk full");
    }
}

//! The client's network as its resolver tells it (EDNS client subnet, RFC 7871): read strictly, cut to what may be used of it, and
//! told again with how much of it was.

use std::net::IpAddr;

use domain::base::opt::subnet::ClientSubnet;

use super::query::FormError;
use crate::zone::{NETWORK_BITS_V4, NETWORK_BITS_V6};

/// Code and length, family, both prefix lengths.
const OPTION_HEAD_BYTES: usize = 2 + 2 + 2 + 1 + 1;

/// What a resolver told of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    told: ClientSubnet,
}

impl Subnet {
    /// Only once in a query, and without a scope, which answers alone have (RFC 7871, 6). What the option itself may not be was refused
    /// where it was read: other families, bits beyond the prefix, another length.
    pub(super) fn of(
        mut options: impl Iterator<Item = Result<ClientSubnet, FormError>>,
    ) -> Result<Option<Self>, FormError> {
        let Some(told) = options.next().transpose()? else { return Ok(None) };
        if told.scope_prefix_len() != 0 || options.next().is_some() {
            return Err(FormError);
        }
        Ok(Some(Self { told }))
    }

    /// Whom the answer is for, as far as that may be looked at; none: the resolver keeps it to itself (RFC 7871, 7.1.2).
    pub(super) fn client(&self) -> Option<IpAddr> {
        let bits = self.bits();
        (bits > 0).then(|| ClientSubnet::new(bits, 0, self.told.addr()).addr())
    }

    /// The option of an answer: family, address and source as they were told, and how many bits of it the answer depends on.
    pub(super) fn answered(&self, client_bits: u8) -> ClientSubnet {
        let scope = client_bits.min(self.bits());
        ClientSubnet::new(self.told.source_prefix_len(), scope, self.told.addr())
    }

    /// As many bytes as the option has in an answer.
    pub(super) fn option_bytes(&self) -> usize {
        OPTION_HEAD_BYTES + usize::from(self.told.source_prefix_len()).div_ceil(8)
    }

    /// Bits that are told, at most a network's.
    fn bits(&self) -> u8 {
        let most = match self.told.addr() {
            IpAddr::V4(_) => NETWORK_BITS_V4,
            IpAddr::V6(_) => NETWORK_BITS_V6,
        };
        self.told.source_prefix_len().min(most)
    }
}

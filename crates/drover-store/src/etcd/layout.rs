//! Where things lie in etcd.
//!
//! | key | what |
//! | --- | --- |
//! | `PREFIX/store` | the store's own record |
//! | `PREFIX/records/KEY` | drover's records, under their own keys |
//! | `PREFIX/marks/WRITER/N` | what each transaction leaves, so that a lost answer can be found out |
//! | `PREFIX/compaction` | the revision to which history may go next |

#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: String,
    records: String,
}

impl Layout {
    pub(super) fn new(prefix: &str) -> Self {
        Self { root: format!("{prefix}/"), records: format!("{prefix}/records/") }
    }

    /// Everything of this installation.
    pub(super) fn root(&self) -> Vec<u8> {
        self.root.clone().into_bytes()
    }

    pub(super) fn own(&self) -> Vec<u8> {
        format!("{}store", self.root).into_bytes()
    }

    pub(super) fn compaction(&self) -> Vec<u8> {
        format!("{}compaction", self.root).into_bytes()
    }

    pub(super) fn marks(&self) -> Vec<u8> {
        format!("{}marks/", self.root).into_bytes()
    }

    pub(super) fn mark(&self, writer: &str, number: u64) -> Vec<u8> {
        format!("{}marks/{writer}/{number}", self.root).into_bytes()
    }

    /// A record's key, or the beginning of some.
    pub(super) fn record(&self, key: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.records.len() + key.len());
        bytes.extend_from_slice(self.records.as_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes
    }

    /// The record's own key; `None` for what is no record of drover's.
    pub(super) fn key_of(&self, etcd_key: &[u8]) -> Option<String> {
        let key = etcd_key.strip_prefix(self.records.as_bytes())?;
        String::from_utf8(key.to_vec()).ok()
    }
}

/// The first key after all that begin with `prefix`, which is not empty here. UTF-8 has no byte 255, so that the last
/// one can always be counted up.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_where_their_keys_do() {
        let layout = Layout::new("/drover");
        assert_eq!(layout.record("traffic/x"), b"/drover/records/traffic/x");
        assert_eq!(layout.key_of(b"/drover/records/traffic/x").as_deref(), Some("traffic/x"));
        assert_eq!(layout.key_of(b"/drover/store"), None);
        for prefix in ["", "a", "a/", "\u{10ffff}"] {
            let (from, to) = (layout.record(prefix), end_of(&layout.record(prefix)));
            for key in ["", "0", "\u{10ffff}"] {
                let key = layout.record(&format!("{prefix}{key}"));
                assert!(from <= key && key < to, "{prefix:?}");
            }
            assert!(layout.own() >= to || layout.own() < from);
        }
    }
}

//! Embedded authoritative DNS server and record-set providers

//! Identities from BIP39 phrases, fingerprints, safety numbers and grants.

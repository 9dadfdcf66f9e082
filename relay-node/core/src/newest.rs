//! Which of several replicas' words counts.

use std::collections::BTreeMap;

/// Tells the word of one replica that counts from those that are older: the highest generation among the replicas that
/// are attached. A replica that went away took its word with it, so one that began to count anew is heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    said: BTreeMap<u64, u64>,
}

impl Newest {
    /// The replica on `stream` says something of `generation`: whether that counts.
    pub fn handle_word(&mut self, stream: u64, generation: u64) -> bool {
        let others = self.said.iter().filter(|(other, _)| **other != stream);
        let counts = others
            .map(|(_, said)| *said)
            .max()
            .is_none_or(|said| generation >= said);
        self.said.insert(stream, generation);
        counts
    }

    /// A stream is over.
    pub fn handle_detached(&mut self, stream: u64) {
        self.said.remove(&stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_word_of_those_attached_counts() {
        let mut newest = Newest::default();
        assert!(newest.handle_word(1, 7));
        assert!(!newest.handle_word(2, 6));
        assert!(newest.handle_word(2, 7));
        assert!(newest.handle_word(2, 9));
        assert!(!newest.handle_word(1, 8));
        newest.handle_detached(2);
        // Whoever stays may begin anew, as a control plane with a new database does.
        assert!(newest.handle_word(1, 1));
    }
}

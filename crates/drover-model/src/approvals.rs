//! How many people must agree to a question, and who did.
//!
//! Where one is enough, whoever answers is believed as he always was. Where more are asked for, a name counts that a token
//! proves, and each person once: what a request says of itself would let one person answer for two.

use crate::ids::TokenName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// People that a question may ask for, at most: at night there are no more.
pub const APPROVALS_MAX: u32 = 5;

/// How many people must agree, and who did so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Approvals {
    /// So many different people.
    pub needed: u32,
    /// Who did, by the names of their tokens, in order. Whoever began a run is the first, if a token says who that was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<TokenName>,
}

impl Default for Approvals {
    fn default() -> Self {
        Self { needed: 1, agreed: Vec::new() }
    }
}

/// As whom somebody approves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Voice {
    /// As who the request says.
    #[default]
    Claimed,
    /// As whose token was shown.
    Proven {
        /// Its name.
        name: TokenName,
    },
    /// As an admin who answers for everybody, since nobody else is there.
    Alone,
}

impl Voice {
    /// Nothing is proven, as in all records from before there were voices.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        *self == Self::Claimed
    }
}

/// Why an approval does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCounted {
    /// Nothing proves whose it is.
    Unproven,
    /// That person has agreed before, by this name.
    Again(TokenName),
}

impl Approvals {
    /// Of so many people, of whom none has agreed.
    #[must_use]
    pub fn of(needed: u32) -> Self {
        Self { needed: needed.max(1), agreed: Vec::new() }
    }

    /// With the first of them, who asks.
    #[must_use]
    pub fn begun_by(mut self, who: Option<TokenName>) -> Self {
        if self.asks_several() {
            self.agreed.extend(who);
        }
        self
    }

    /// One person, as it is where no policy says otherwise.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Is one person's word not enough?
    #[must_use]
    pub fn asks_several(&self) -> bool {
        self.needed > 1
    }

    /// How many more must agree.
    #[must_use]
    pub fn missing(&self) -> u32 {
        self.needed.saturating_sub(u32::try_from(self.agreed.len()).unwrap_or(u32::MAX))
    }

    /// Who agreed, in words.
    #[must_use]
    pub fn names(&self) -> String {
        let agreed: Vec<&str> = self.agreed.iter().map(TokenName::as_str).collect();
        if agreed.is_empty() { "nobody".to_owned() } else { agreed.join(" and ") }
    }

    /// What stands after somebody agreed, and whether that is enough.
    ///
    /// # Errors
    /// [`NotCounted`] when it changes nothing.
    pub fn after(&self, voice: &Voice) -> Result<(Self, bool), NotCounted> {
        let mut next = self.clone();
        if !self.asks_several() {
            return Ok((next, true));
        }
        match voice {
            Voice::Alone => Ok((next, true)),
            Voice::Claimed => Err(NotCounted::Unproven),
            Voice::Proven { name } => {
                if let Some(before) = self.agreed.iter().find(|a| a.person() == name.person()) {
                    return Err(NotCounted::Again(before.clone()));
                }
                next.agreed.push(name.clone());
                let is_enough = next.missing() == 0;
                Ok((next, is_enough))
            }
        }
    }
}

impl fmt::Display for Approvals {
    /// Who must still agree, such as `2 people approve: ann did, 1 more is needed`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.asks_several() {
            return f.write_str("a person approves");
        }
        write!(f, "{} people approve: {} did, {} more must", self.needed, self.names(), self.missing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TokenName {
        TokenName::new(text).unwrap()
    }

    fn proven(text: &str) -> Voice {
        Voice::Proven { name: name(text) }
    }

    #[test]
    fn where_one_is_enough_anybody_is() {
        for voice in [Voice::Claimed, proven("ann"), Voice::Alone] {
            assert_eq!(Approvals::default().after(&voice), Ok((Approvals::default(), true)), "{voice:?}");
        }
        assert!(Approvals::of(0).is_default());
        assert!(Approvals::of(1).begun_by(Some(name("ann"))).is_default());
    }

    #[test]
    fn two_are_two_people_whose_tokens_were_shown() {
        let begun = Approvals::of(2).begun_by(Some(name("ann")));
        assert_eq!(begun.to_string(), "2 people approve: ann did, 1 more must");
        assert_eq!(begun.after(&Voice::Claimed), Err(NotCounted::Unproven));
        assert_eq!(begun.after(&proven("ann")), Err(NotCounted::Again(name("ann"))));
        // A token is renewed under the next name, and both may count at once.
        assert_eq!(begun.after(&proven("ann-2")), Err(NotCounted::Again(name("ann"))));
        let (both, is_enough) = begun.after(&proven("bob")).unwrap();
        assert!(is_enough);
        assert_eq!(both.agreed, [name("ann"), name("bob")]);

        let nobodys = Approvals::of(2).begun_by(None);
        assert_eq!(nobodys.to_string(), "2 people approve: nobody did, 2 more must");
        let (first, is_enough) = nobodys.after(&proven("ann")).unwrap();
        assert_eq!((first.missing(), is_enough), (1, false));
        assert!(first.after(&Voice::Alone).unwrap().1);
    }

    #[test]
    fn a_person_is_a_name_without_the_number_of_its_renewal() {
        for (text, person) in
            [("ann", "ann"), ("ann-2", "ann"), ("ann-b", "ann-b"), ("ann-2-3", "ann-2"), ("7", "7")]
        {
            assert_eq!(name(text).person(), person, "{text}");
        }
    }
}

//! How a record set is answered: with how many of its values, and whom with the same ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The most values of one answer that can be asked for: as many as a record set may have.
pub const ANSWERS_MAX: u8 = 100;

/// How many of the values that have weight stand in one answer. Written as `one`, `all` or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Answers {
    /// One.
    #[default]
    One,
    /// So many, or all where there are fewer.
    Several(u8),
    /// All of them.
    All,
}

impl Answers {
    /// The words, beside which there are numbers.
    pub const WORDS: [&'static str; 2] = ["one", "all"];

    /// So many of `with_weight` values.
    #[must_use]
    pub fn of(self, with_weight: usize) -> usize {
        match self {
            Self::One => with_weight.min(1),
            Self::Several(count) => with_weight.min(count.into()),
            Self::All => with_weight,
        }
    }

    /// From a number; one value is the ordinary case.
    #[must_use]
    pub const fn several(count: u8) -> Self {
        if count == 1 { Self::One } else { Self::Several(count) }
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => f.write_str("one"),
            Self::Several(count) => count.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

impl FromStr for Answers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "one" => Ok(Self::One),
            "all" => Ok(Self::All),
            number => match number.parse() {
                Ok(count) if (1..=ANSWERS_MAX).contains(&count) => Ok(Self::several(count)),
                _ => Err(format!("must be one, all, or a number from 1 to {ANSWERS_MAX}")),
            },
        }
    }
}

impl TryFrom<String> for Answers {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Answers> for String {
    fn from(answers: Answers) -> Self {
        answers.to_string()
    }
}

/// What decides which values a client gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Draws {
    /// Chance, anew for each question.
    #[default]
    Anew,
    /// The client's network: the same ones as long as the weights stay.
    Stable,
    /// Where the client is, as `geography` of the zone has it: the nearest allowed region that has weight. Chance where it has nothing.
    Nearest,
}

impl Draws {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Anew, Self::Stable, Self::Nearest];

    /// As it is configured.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anew => "anew",
            Self::Stable => "stable",
            Self::Nearest => "nearest",
        }
    }
}

/// How a record set is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Answering {
    /// With how many values.
    pub answers: Answers,
    /// Whom with which.
    pub draws: Draws,
}

impl Answering {
    /// One value, drawn anew: what every kind of server can say.
    pub const USUAL: Self = Self { answers: Answers::One, draws: Draws::Anew };

    /// Is it [`Self::USUAL`]?
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::USUAL
    }
}

impl fmt::Display for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answers: {}, draws: {}", self.answers, self.draws.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for text in ["one", "all", "2", "100"] {
            assert_eq!(text.parse::<Answers>().unwrap().to_string(), text);
        }
        assert_eq!("1".parse::<Answers>(), Ok(Answers::One));
        for wrong in ["", "0", "101", "-1", "most", "ALL"] {
            assert!(wrong.parse::<Answers>().is_err(), "{wrong}");
        }
        let stable = Answering { answers: Answers::Several(3), draws: Draws::Stable };
        let json = serde_json::to_string(&stable).unwrap();
        assert_eq!(json, r#"{"answers":"3","draws":"stable"}"#);
        assert_eq!(serde_json::from_str::<Answering>(&json).unwrap(), stable);
        assert_eq!(serde_json::from_str::<Answering>("{}").unwrap(), Answering::USUAL);
    }

    #[test]
    fn no_more_are_answered_than_there_are() {
        let of = |answers: Answers| [0, 1, 5].map(|there| answers.of(there));
        assert_eq!(of(Answers::One), [0, 1, 1]);
        assert_eq!(of(Answers::Several(3)), [0, 1, 3]);
        assert_eq!(of(Answers::All), [0, 1, 5]);
    }
}

//! Formats choices for messages.

use serde::Serialize;
use serde_json::Value;

/// A choice by its name in configurations and results, as the user writes it: `learned_range`, not `LearnedRange`. A structure
/// becomes the list of all its fields.
pub fn named(choice: &impl Serialize) -> String {
    serde_json::to_value(choice).map_or_else(|e| e.to_string(), |value| shown(&value))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::Bool(is) => if *is { "yes" } else { "no" }.into(),
        Value::Number(number) => number.to_string(),
        Value::String(name) => name.clone(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            let field = |(name, value): (&String, &Value)| match value {
                Value::Object(_) => format!("{} ({})", name.replace('_', " "), shown(value)),
                _ => format!("{} {}", name.replace('_', " "), shown(value)),
            };
            fields.iter().map(field).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::named;

    #[derive(serde::Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Choice {
        LearnedRange,
        Class { num_classes: usize },
    }

    #[derive(serde::Serialize)]
    struct Chosen {
        first_choice: Choice,
        size: [usize; 2],
        most: Option<usize>,
        flip: bool,
    }

    #[test]
    fn choices_have_the_names_of_configurations() {
        assert_eq!(named(&Choice::LearnedRange), "learned_range");
        assert_eq!(named(&Choice::Class { num_classes: 3 }), "class (num classes 3)");
        let chosen = Chosen { first_choice: Choice::LearnedRange, size: [64, 48], most: None, flip: true };
        assert_eq!(named(&chosen), "first choice learned_range, flip yes, most none, size 64 48");
    }
}

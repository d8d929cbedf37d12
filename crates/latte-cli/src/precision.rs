//! The precision option.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use latte_ops::Precision;

/// Parses `f32` or `bf16`, and lists both in the help.
pub(crate) fn parser() -> impl TypedValueParser<Value = Precision> {
    let values = [
        PossibleValue::new("f32").help("f32 operands"),
        PossibleValue::new("bf16").help("Operands rounded to bfloat16, sums in f32"),
    ];
    PossibleValuesParser::new(values).try_map(|text| text.parse::<Precision>())
}

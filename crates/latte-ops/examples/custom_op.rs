//! A custom operation with its gradient: `cargo run --release -p latte-ops --example custom_op`.

use latte_ops::finite_difference::{check, pseudo_random};
use latte_ops::{Op, Result, Tape, Value, linear};

/// `√(x² + 1)`, value by value.
struct SmoothAbs;

impl Op for SmoothAbs {
    fn name(&self) -> &'static str {
        "smooth_abs"
    }

    fn forward(&self, inputs: &[Value]) -> Result<Value> {
        inputs[0].beside(&(inputs[0].to_host()?.sqr()? + 1.0)?.sqrt()?)
    }

    // dy/dx = x / y
    fn backward(&self, inputs: &[Value], output: &Value, gradient: &Value) -> Result<Vec<Option<Value>>> {
        let slope = (inputs[0].to_host()? / output.to_host()?)?;
        Ok(vec![Some(inputs[0].beside(&(gradient.to_host()? * slope)?)?)])
    }
}

#[allow(clippy::print_stdout, reason = "an example says what it found")]
fn main() -> Result<()> {
    // Checks it behind a linear layer, against finite differences of the input and the weight.
    let inputs = [pseudo_random(&[2, 5], 1)?, pseudo_random(&[3, 5], 2)?];
    check(&inputs, |tape, v| tape.apply(SmoothAbs, &[&linear(tape, &v[0], &v[1], None)?]))?;
    let tape = Tape::inference();
    let y = tape.apply(SmoothAbs, &[&tape.constant(&inputs[0])])?.to_host()?;
    println!("{:?}: the gradient agrees with finite differences", y.to_vec2::<f32>()?);
    Ok(())
}

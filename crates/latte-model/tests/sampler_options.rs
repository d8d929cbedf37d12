//! Sampler options by name: each changes the run or is an error, and settings record the values that are used.

use candle_core::Tensor;
use latte_model::Result;
use latte_model::diffusion::Denoiser;
use latte_model::noise::TorchRng;
use latte_model::sampling::{AskedFor, Sampler, Sampling, SolverConfig, sample};
use latte_ops::CancelToken;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A network with variance values after its prediction, far from any limit.
struct Toy;

impl Denoiser for Toy {
    fn predict(&self, x: &Tensor, timesteps: &[f64]) -> Result<Tensor> {
        let prediction = ((x * 0.4)? + ((x * 2.0)?.sin()? * 0.6)?)?.affine(3.0, 0.2 * (timesteps[0] / 200.0).sin())?;
        Ok(Tensor::cat(&[&prediction, &x.tanh()?], 2)?)
    }
}

const STEPS: usize = 10;

fn ddim() -> Value {
    json!({"_class_name": "DDIMScheduler", "beta_schedule": "linear", "clip_sample": false, "steps_offset": 0})
}

fn configure(keys: &Value, kind: Sampler) -> Result<SolverConfig> {
    SolverConfig::from_json(&keys.to_string())?.with_kind(kind)
}

fn ask(file: &Value, sampler: Sampler, options: &[(&str, Value)], steps: usize) -> Result<Sampling> {
    let options: Vec<(String, Value)> = options.iter().map(|(key, value)| ((*key).to_string(), value.clone())).collect();
    AskedFor { sampler: Some(sampler), options: &options, eta: None }.of(file, steps, &configure)
}

/// The configuration in the recorded settings.
fn configuration(sampling: &Sampling) -> Result<SolverConfig> {
    let config = SolverConfig::from_json(&sampling.scheduler.to_string())?;
    let config = sampling.sampler.map_or(Ok(config.clone()), |kind| config.with_kind(kind))?;
    Ok(SolverConfig { eta: sampling.eta, given: BTreeMap::new(), ..config })
}

fn end(sampling: &Sampling, steps: usize) -> Result<Vec<f32>> {
    let mut solver = configuration(sampling)?.solver(steps)?;
    let start = TorchRng::new(1).randn((1, 2, 3, 4, 4))?;
    let go_on = CancelToken::new();
    let end = sample(&mut *solver, &Toy, &start, &mut TorchRng::new(2), &go_on, &mut |_| {})?;
    end.finished().map_or_else(|| Ok(Vec::new()), |x| Ok(x.flatten_all()?.to_vec1()?))
}

/// Values for every key; at least one differs from each method's default.
fn values() -> Vec<(&'static str, Vec<Value>)> {
    let betas: Vec<f64> = (0..1000).map(|i| 0.0002 + 0.00001 * f64::from(i)).collect();
    vec![
        ("num_train_timesteps", vec![json!(500)]),
        ("beta_start", vec![json!(0.001)]),
        ("beta_end", vec![json!(0.03)]),
        ("beta_schedule", vec![json!("scaled_linear"), json!("squaredcos_cap_v2")]),
        ("trained_betas", vec![json!(betas)]),
        ("prediction_type", vec![json!("v_prediction"), json!("sample")]),
        ("timestep_spacing", vec![json!("trailing"), json!("linspace"), json!("leading")]),
        ("steps_offset", vec![json!(1), json!(0)]),
        ("rescale_betas_zero_snr", vec![json!(true)]),
        ("clip_sample", vec![json!(true), json!(false)]),
        ("clip_sample_range", vec![json!(0.5)]),
        ("thresholding", vec![json!(true)]),
        ("dynamic_thresholding_ratio", vec![json!(0.5)]),
        ("sample_max_value", vec![json!(2.0)]),
        ("set_alpha_to_one", vec![json!(false), json!(true)]),
        ("variance_type", vec![json!("fixed_large"), json!("learned"), json!("fixed_small_log")]),
        ("interpolation_type", vec![json!("log_linear")]),
        ("timestep_type", vec![json!("continuous")]),
        ("use_karras_sigmas", vec![json!(true), json!(false)]),
        ("use_exponential_sigmas", vec![json!(true)]),
        ("use_beta_sigmas", vec![json!(true)]),
        ("use_lu_lambdas", vec![json!(true)]),
        ("euler_at_final", vec![json!(true)]),
        ("sigma_min", vec![json!(0.1)]),
        ("sigma_max", vec![json!(10.0)]),
        ("final_sigmas_type", vec![json!("sigma_min"), json!("zero")]),
        ("solver_order", vec![json!(1), json!(3), json!(2)]),
        ("solver_type", vec![json!("midpoint"), json!("heun"), json!("logrho"), json!("bh1"), json!("bh2")]),
        ("lower_order_final", vec![json!(true), json!(false)]),
        ("use_flow_sigmas", vec![json!(false), json!(true)]),
        ("flow_shift", vec![json!(3.0)]),
        ("use_dynamic_shifting", vec![json!(false)]),
        ("time_shift_type", vec![json!("exponential")]),
        ("shift_terminal", vec![json!(0.1)]),
        (
            "algorithm_type",
            ["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++", "deis"].map(|name| json!(name)).to_vec(),
        ),
        ("lambda_min_clipped", vec![json!(-2.0), json!("-Infinity")]),
        ("skip_prk_steps", vec![json!(true), json!(false)]),
        ("predict_x0", vec![json!(false)]),
        ("disable_corrector", vec![json!([0]), json!([900])]),
        ("solver_p", vec![json!({})]),
        ("eta", vec![json!(0.5)]),
        ("_class_name", vec![json!("DDIMScheduler")]),
        ("_diffusers_version", vec![json!("0.1")]),
    ]
}

/// The table of samplers and options: an accepted option changes the run, or equals the value that applies without it.
#[test]
fn every_option_of_every_sampler_changes_the_run_or_is_refused() -> Result<()> {
    // Settings that other options need to have an effect.
    let beside: [&[(&str, Value)]; 7] = [
        &[],
        &[("use_karras_sigmas", json!(true))],
        &[("thresholding", json!(true))],
        &[("thresholding", json!(true)), ("sample_max_value", json!(4.0))],
        &[("clip_sample", json!(true))],
        &[("final_sigmas_type", json!("sigma_min"))],
        &[("prediction_type", json!("v_prediction"))],
    ];
    let mut with_effect: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut refused, mut accepted) = (0, 0);
    for kind in Sampler::ALL {
        let runs = beside.iter().map(|beside| (beside, STEPS)).chain([(&beside[0], 3), (&beside[0], 20), (&beside[5], 20)]);
        for (beside, steps) in runs {
            let Ok(without) = ask(&ddim(), kind, beside, steps) else { continue };
            let Ok(end_without) = end(&without, steps) else { continue };
            for (key, values) in values() {
                if beside.iter().any(|(other, _)| *other == key) {
                    continue;
                }
                for value in values {
                    let options = [*beside, &[(key, value.clone())]].concat();
                    let Ok(with) = ask(&ddim(), kind, &options, steps) else {
                        refused += 1;
                        continue;
                    };
                    let config = configuration(&with)?;
                    // The run reports an impossible choice.
                    if config.solver(steps).is_err() {
                        continue;
                    }
                    accepted += 1;
                    let holds_anyway = config == configuration(&without)?;
                    // A schedule that the method cannot handle ends the run with an error.
                    let changes = end(&with, steps).map_or(true, |end| end != end_without);
                    assert!(changes || holds_anyway, "{kind}, {steps} steps, {beside:?}: {key}={value} does nothing");
                    *with_effect.entry(key).or_default() += usize::from(changes);
                }
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    let none: Vec<&str> =
        values().into_iter().map(|(key, _)| key).filter(|key| with_effect.get(key).is_none_or(|n| *n == 0)).collect();
    let of_other_models =
        ["use_flow_sigmas", "flow_shift", "use_dynamic_shifting", "time_shift_type", "shift_terminal", "solver_p"];
    let expected: Vec<&str> = of_other_models.into_iter().chain(["_class_name", "_diffusers_version"]).collect();
    assert_eq!(none, expected, "options that no sampler takes");
    Ok(())
}

#[test]
fn the_equation_that_is_asked_for_decides_about_the_method() -> Result<()> {
    use Sampler as K;
    let algorithm = |name: &str| vec![("algorithm_type", json!(name))];
    for (sampler, name, plain) in [
        (K::DpmMultistep, "sde-dpmsolver++", K::DpmMultistepSde),
        (K::DpmMultistepSde, "dpmsolver++", K::DpmMultistep),
        (K::DpmMultistep, "dpmsolver++", K::DpmMultistep),
    ] {
        let asked = ask(&ddim(), sampler, &algorithm(name), STEPS)?;
        assert_eq!(asked.sampler, Some(plain), "{sampler} {name}");
        assert_eq!(asked.scheduler["algorithm_type"], name);
        assert_eq!(end(&asked, STEPS)?, end(&ask(&ddim(), plain, &[], STEPS)?, STEPS)?, "{sampler} {name}");
    }
    // The user did not ask for the file's own equation: the requested method takes precedence, and the recorded equation is the one
    // that ran.
    let file = json!({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"});
    let ode = ask(&file, K::DpmMultistep, &[], STEPS)?;
    assert_eq!((ode.sampler, &ode.scheduler["algorithm_type"]), (Some(K::DpmMultistep), &json!("dpmsolver++")));
    let asked = AskedFor { options: &[("algorithm_type".into(), json!("dpmsolver++"))], ..AskedFor::default() };
    assert_eq!(asked.of(&file, STEPS, &configure)?.scheduler["algorithm_type"], "dpmsolver++");
    Ok(())
}

#[test]
fn errors_name_the_option_and_the_known_options() {
    let message =
        |sampler, options: &[(&str, Value)]| ask(&ddim(), sampler, options, 50).err().map(|e| e.to_string()).unwrap_or_default();
    let line = message(Sampler::DpmMultistep, &[("clip_sample", json!(true))]);
    assert!(line.starts_with("clip_sample: ") && line.contains("dpm++ has") && line.contains("solver_order"), "{line}");
    assert!(!line.contains("flow_shift"), "{line}");
    let line = message(Sampler::Unipc, &[("solver_type", json!("heun"))]);
    assert!(line.starts_with("solver_type: ") && line.contains("heun"), "{line}");
    let line = message(Sampler::DpmMultistep, &[("lower_order_final", json!(false))]);
    assert!(line.contains("50 steps") && line.contains("fewer than 15"), "{line}");
    let line = message(Sampler::Ddim, &[("clip_sample_range", json!(2.0))]);
    assert!(line.contains("clip_sample=true"), "{line}");
    let line = message(Sampler::Ddim, &[("steps_offset", json!(1)), ("steps_offset", json!(2))]);
    assert!(line.contains("twice"), "{line}");
    let line = message(Sampler::Heun, &[("eta", json!(0.5))]);
    assert!(line.starts_with("eta: ") && line.contains("heun has"), "{line}");
    let asked = AskedFor { eta: Some(0.0), sampler: Some(Sampler::Ddpm), options: &[] };
    assert!(asked.of(&ddim(), 10, &configure).is_err());
}

/// For every file, the recorded keys give the same configuration as all of its keys.
#[test]
fn recorded_keys_give_the_same_configuration() -> Result<()> {
    let other_keys = json!({
        "beta_end": 0.015, "rescale_betas_zero_snr": true, "clip_sample": true, "clip_sample_range": 2.0, "set_alpha_to_one": false,
        "solver_order": 3, "solver_type": "heun", "algorithm_type": "sde-dpmsolver++", "timestep_spacing": "trailing", "flow_shift": 2.0,
        "use_karras_sigmas": true, "skip_prk_steps": true, "variance_type": "fixed_large", "sigma_min": 0.2, "predict_x0": false,
        "lower_order_final": null, "steps_offset": 1, "_diffusers_version": "0.42.1", "eta": 0.7, "disable_corrector": [1],
    });
    for class in Sampler::ALL {
        let mut file = other_keys.clone();
        file["_class_name"] = class.class_name().into();
        for kind in Sampler::ALL {
            let whole = configure(&file, kind)?;
            // Fields that are read from a file and not used.
            let used = |config: SolverConfig| SolverConfig {
                given: BTreeMap::new(),
                eta: 0.0,
                variance: if kind == Sampler::Ddpm { config.variance } else { whole.variance },
                algorithm: if kind == Sampler::Deis { whole.algorithm } else { config.algorithm },
                ..config
            };
            let sampling = ask(&file, kind, &[], STEPS)?;
            assert_eq!(used(configuration(&sampling)?), used(whole.clone()), "{kind} of a file of {class}");
            let keys = sampling.scheduler.as_object().map_or(0, serde_json::Map::len);
            assert!(keys < other_keys.as_object().map_or(0, serde_json::Map::len), "{kind}: {}", sampling.scheduler);
            assert!(sampling.scheduler.get("flow_shift").is_none() && sampling.scheduler.get("eta").is_none());
        }
    }
    Ok(())
}

//! Models and their dated prices, from TOML.

use super::{Model, PriceVersion, Size};
use crate::clock::UnixMs;
use crate::decision::price::{Price, pico_usd_for_a_token};
use crate::fields::{Field, Fields};

/// A token count is 32 bits on the wire.
const TOKENS_MAX: u64 = 0xffff_ffff;
/// Below every [`super::ModelId`] that can be told apart.
const MODELS_MAX: usize = 10_000;
/// Ends the names of fast rate buckets, so no model's name may end so.
const FAST_SUFFIX: &str = ":fast";

pub(super) fn models(field: &Field<'_>, sizes: &[Size]) -> Vec<Model> {
    let mut models: Vec<Model> = Vec::new();
    let mut names = hashbrown::HashSet::<Box<str>, foldhash::fast::RandomState>::default();
    let Some(tables) = field.tables() else { return models };
    if !(1..=MODELS_MAX).contains(&tables.len()) {
        field.fault(format!("has {} models; write 1 to {MODELS_MAX}", tables.len()));
        return models;
    }
    for mut fields in tables {
        let model = model(&mut fields, sizes);
        if !model.name.is_empty() && !names.insert(model.name.clone()) {
            fields.fault("name", "was used before; give each model a name of its own");
        }
        fields.end();
        models.push(model);
    }
    models
}

fn model(fields: &mut Fields<'_>, sizes: &[Size]) -> Model {
    let name = fields.required("name");
    let model = Model {
        name: name.text().unwrap_or_default().into(),
        size: size_named(&fields.required("size"), sizes),
        context_tokens: tokens(&fields.required("context_tokens"), 2),
        output_tokens_max: tokens(&fields.required("output_tokens_max"), 1),
        output_tokens_default: tokens(&fields.required("output_tokens_default"), 1),
        bytes_per_token_milli: bytes_per_token_milli(&fields.required("bytes_per_token")),
        prices: prices(&fields.required("price")),
    };
    if model.name.ends_with(FAST_SUFFIX) {
        name.fault(format!("ends with {FAST_SUFFIX:?}, which names a model's fast limits; choose another name"));
    }
    if model.output_tokens_max > model.context_tokens {
        fields.fault("output_tokens_max", "is above context_tokens; write at most as much");
    }
    if model.output_tokens_default > model.output_tokens_max {
        fields.fault("output_tokens_default", "is above output_tokens_max; write at most as much");
    }
    model
}

fn size_named(field: &Field<'_>, sizes: &[Size]) -> usize {
    let Some(name) = field.text() else { return 0 };
    let found = sizes.iter().position(|size| *size.name == *name);
    if found.is_none() {
        let known: Vec<&str> = sizes.iter().map(|size| &*size.name).collect();
        field.fault(format!("is {name:?}, which is no size; write one of: {}", known.join(", ")));
    }
    found.unwrap_or(0)
}

/// The fallback keeps a fault of one number from causing another about its neighbours.
fn tokens(field: &Field<'_>, least: u64) -> u64 {
    field.whole(least..=TOKENS_MAX).unwrap_or(least)
}

fn bytes_per_token_milli(field: &Field<'_>) -> u32 {
    let Some(mut bytes) = field.decimal() else { return 0 };
    bytes = bytes.normalize();
    let milli =
        bytes.checked_mul(1_000.into()).filter(|_| bytes.scale() <= 3).and_then(|milli| u32::try_from(milli).ok());
    match milli {
        Some(milli @ 100..=100_000) => milli,
        _ => {
            field.fault(format!("is {bytes}; write a number from 0.1 to 100 with at most three decimal places"));
            0
        }
    }
}

/// Ascending by instant, so that the price in force is the last that began.
fn prices(field: &Field<'_>) -> Vec<PriceVersion> {
    let mut prices: Vec<PriceVersion> = Vec::new();
    let Some(tables) = field.tables() else { return prices };
    if tables.is_empty() {
        field.fault("is empty; a model without a price cannot be used, so write a price or remove the model");
    }
    for mut fields in tables {
        let version = price_version(&mut fields);
        if prices.last().is_some_and(|earlier| version.effective_at <= earlier.effective_at) {
            fields.fault("effective_at", "is not after the price before; order prices by time, each with its own");
        }
        fields.end();
        prices.push(version);
    }
    prices
}

fn price_version(fields: &mut Fields<'_>) -> PriceVersion {
    let effective_at = fields.required("effective_at");
    let mut offered = false;
    let [standard, priority, fast, batch] = ["standard", "priority", "fast", "batch"].map(|service_tier| {
        let triple = fields.optional(service_tier);
        offered |= triple.is_there();
        triple.fields().map(price)
    });
    if !offered {
        fields.fault("", "offers no service tier; write at least standard");
    }
    if let (Some(standard), Some(batch)) = (standard, batch)
        && (batch.prompt > standard.prompt || batch.cached > standard.cached || batch.generated > standard.generated)
    {
        fields.fault("batch", "is dearer than standard; batch is what waits longer for less");
    }
    PriceVersion { effective_at: instant(&effective_at), standard, priority, fast, batch }
}

fn instant(field: &Field<'_>) -> UnixMs {
    let Some(instant) = field.instant() else { return UnixMs(0) };
    let seconds = u64::try_from(instant.unix_timestamp());
    if seconds.is_err() {
        field.fault("is before 1970; write a later instant");
    }
    UnixMs(seconds.unwrap_or(0).saturating_mul(1_000))
}

fn price(mut fields: Fields<'_>) -> Price {
    let free = fields.optional("free").boolean() == Some(true);
    let [prompt, cached, generated] =
        ["prompt", "cached", "generated"].map(|kind| token_price(&fields.required(kind), free));
    if cached > prompt && prompt.is_some() {
        // A hold assumes that nothing is cached, and must be the most that the prompt can cost.
        fields.fault("cached", "is above prompt; a hold for uncached tokens would not cover cached ones");
    }
    fields.end();
    let known = Option::unwrap_or_default;
    Price { prompt: known(prompt), cached: known(cached), generated: known(generated) }
}

/// Pico-USD for a token. A zero is a slip of the pen unless somebody said that it is meant.
fn token_price(field: &Field<'_>, free: bool) -> Option<u64> {
    match pico_usd_for_a_token(field.decimal()?) {
        Ok(0) if !free => field.fault("is zero; write free = true beside it if that is meant"),
        Ok(price) => return Some(price),
        Err(error) => field.fault(error.to_string()),
    }
    None
}

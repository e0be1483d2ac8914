//! Map states: where their items come from, and what an iteration is given (aws-semantics 10.6.7).

use std::sync::Arc;

use serde_json::Value;

use super::event::Item;
use super::failure::{Mishap, name};
use super::history::Happening;
use super::run::{Attempt, Runner, Stay};
use super::source::{Wording, unexpected};
use super::state::Items;
use super::view::Chain;
use crate::definition::{self, Map, Mode, QueryLanguage};
use crate::template;

impl<'m> Runner<'m, '_> {
    pub(super) fn map(
        &mut self,
        stay: &Stay<'m, '_>,
        map: &'m Map,
        chain: &Chain<'_>,
        last: &mut u64,
    ) -> Result<Attempt, Mishap> {
        let input = self.effective_input(stay, chain)?;
        let about = Arc::clone(&self.about);
        let view = stay.standing(&about, chain).of(&input);
        let max_concurrency = match &map.max_concurrency {
            Some(source) => self.integer(stay, source, "MaxConcurrency", Wording::Field, &view)?,
            None => 0,
        };
        let items = match &map.reader {
            Some(_) => Vec::new(),
            None => self.items(stay, map, &input, chain)?,
        };
        self.record(
            last,
            Happening::MapStateStarted {
                length: items.len() as u64,
            },
        );
        match map.mode {
            Mode::Inline => {
                let items = Items {
                    values: items,
                    keys: Vec::new(),
                };
                self.inline_map(stay, input, items, max_concurrency, chain, last)
            }
            Mode::Distributed(_) => {
                self.begin_run(stay, map, input, items, max_concurrency, chain, last)
            }
        }
    }

    fn items(
        &mut self,
        stay: &Stay<'m, '_>,
        map: &Map,
        input: &Arc<Value>,
        chain: &Chain<'_>,
    ) -> Result<Vec<Arc<Value>>, Mishap> {
        let about = Arc::clone(&self.about);
        let view = stay.standing(&about, chain).of(input);
        let value = match &map.items {
            definition::Items::Input => (**input).clone(),
            definition::Items::Path(path) => template::evaluate_path(path, "ItemsPath", &view)
                .map_err(|error| super::output::evaluation(stay, error))?,
            definition::Items::Template(template) => {
                let value = self.evaluate(stay, template, "Items", &view)?;
                if let (Some(expression), false) = (template.as_expression(), value.is_array()) {
                    return Err(unexpected(stay, expression, "Items", "array", &value));
                }
                value
            }
        };
        match (value, &map.items, stay.state.language) {
            (Value::Array(items), ..) => Ok(items.into_iter().map(Arc::new).collect()),
            (_, definition::Items::Path(path), _) => Err(stay.mishap(
                name::RUNTIME,
                format_args!("Reference path \"{path}\" must point to array."),
            )),
            (_, _, QueryLanguage::JsonPath) => {
                Err(stay.mishap(name::RUNTIME, "Reference path \"$\" must point to array."))
            }
            (value, _, QueryLanguage::Jsonata) => {
                let mut mishap = stay.mishap(
                    name::QUERY_EVALUATION_ERROR,
                    format_args!("Map state input must be an array but was: {value}"),
                );
                mishap.location = Some("Items".to_owned());
                Err(mishap)
            }
        }
    }

    /// The input of one iteration: the item, or what the item template makes of it.
    pub(super) fn item_input(
        &mut self,
        stay: &Stay<'m, '_>,
        map: &Map,
        input: &Arc<Value>,
        item: &Item,
        chain: &Chain<'_>,
    ) -> Result<Arc<Value>, Mishap> {
        let Some(selector) = &map.item_selector else {
            return Ok(Arc::clone(&item.value));
        };
        let about = Arc::clone(&self.about);
        let mut standing = stay.standing(&about, chain);
        standing.item = Some(item);
        let value = self.evaluate(stay, selector, "ItemSelector", &standing.of(input))?;
        self.check_size(stay, &value)?;
        Ok(Arc::new(value))
    }
}

//! Map states, inline and distributed.

use std::sync::Arc;

use super::{Flow, Resource, Source};
use crate::path::Path;
use crate::template::Template;

/// What is particular to a Map.
#[derive(Debug)]
pub struct Map {
    /// The flow that is run for each item (`ItemProcessor`, or `Iterator` in older definitions).
    pub processor: Arc<Flow>,
    /// Where iterations run.
    pub mode: Mode,
    /// Where the items come from, unless `reader` says so.
    pub items: Items,
    /// `ItemSelector`, or `Parameters` in older definitions: the input of one iteration.
    pub item_selector: Option<Template>,
    /// `MaxConcurrency` or its path; 0, the default, is as many as the mode allows.
    pub max_concurrency: Option<Source<u64>>,
    /// `ItemReader`. AWS has it, the batcher and the writer in distributed mode only; the open
    /// specification of the language has them in every Map, and so have we.
    pub reader: Option<Reader>,
    /// `ItemBatcher`.
    pub batcher: Option<Batcher>,
    /// `ResultWriter`.
    pub writer: Option<Writer>,
    /// `ToleratedFailureCount` or its path: the Map fails when more iterations than this failed.
    pub tolerated_failure_count: Option<Source<u64>>,
    /// `ToleratedFailurePercentage` or its path, 0 to 100.
    pub tolerated_failure_percentage: Option<Source<f64>>,
    /// `Label`: part of the names of child executions, at most 40 characters.
    pub label: Option<Arc<str>>,
}

/// `ProcessorConfig`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In the execution itself; its events are part of the history. The default.
    #[default]
    Inline,
    /// Each iteration, or batch of items, is an execution of its own.
    Distributed(ExecutionType),
}

/// What kind of executions a distributed Map starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecutionType {
    /// As a standard machine; the default.
    #[default]
    Standard,
    /// As an express machine.
    Express,
}

/// Where items come from.
#[derive(Clone, Debug)]
pub enum Items {
    /// The whole input of the state (JSONPath without `ItemsPath`, JSONata without `Items`).
    Input,
    /// `ItemsPath`.
    Path(Path),
    /// `Items`: an expression, or an array that may hold expressions.
    Template(Template),
}

/// `ItemReader`.
#[derive(Debug)]
pub struct Reader {
    /// What reads: `arn:aws:states:::s3:getObject` or `arn:aws:states:::s3:listObjectsV2`.
    pub resource: Resource,
    /// `Parameters` or `Arguments`: which object or prefix.
    pub arguments: Option<Template>,
    /// `InputType`: the format; absent for a listing.
    pub input_type: Option<InputType>,
    /// Where the names of CSV columns come from; default the first row.
    pub csv_headers: HeaderLocation,
    /// `CSVDelimiter`; default a comma.
    pub csv_delimiter: char,
    /// `ItemsPointer`: a JSON pointer to the array in a JSON file.
    pub items_pointer: Option<Arc<str>>,
    /// `MaxItems` or its path: how many items are read at most; up to 100,000,000.
    pub max_items: Option<Source<u64>>,
    /// `Transformation`: what a listing yields.
    pub transformation: Transformation,
}

/// `InputType` of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputType {
    /// One JSON document that holds an array or an object.
    Json,
    /// A JSON value in every line.
    Jsonl,
    /// Rows of text.
    Csv,
    /// Columns, Apache Parquet.
    Parquet,
    /// An inventory or a manifest that names objects.
    Manifest,
}

/// Where the names of CSV columns come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeaderLocation {
    /// The first row; the default.
    #[default]
    FirstRow,
    /// Given in the definition.
    Given(Vec<Arc<str>>),
}

/// `Transformation` of a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transformation {
    /// The listed objects' metadata are the items; the default.
    #[default]
    None,
    /// The listed objects are read and their content is flattened into items.
    LoadAndFlatten,
}

/// `ItemBatcher`: several items become the input of one child execution. At least one of the two
/// bounds is present.
#[derive(Debug)]
pub struct Batcher {
    /// `MaxItemsPerBatch` or its path.
    pub max_items: Option<Source<u64>>,
    /// `MaxInputBytesPerBatch` or its path; at most 262,144.
    pub max_bytes: Option<Source<u64>>,
    /// `BatchInput`: what every batch is given beside its items.
    pub batch_input: Option<Template>,
}

/// `ResultWriter`.
#[derive(Debug)]
pub struct Writer {
    /// What writes: `arn:aws:states:::s3:putObject`. Absent when only the format is changed.
    pub resource: Option<Resource>,
    /// `Parameters` or `Arguments`: which bucket and prefix.
    pub arguments: Option<Template>,
    /// `Transformation` of the results.
    pub transformation: WriterTransformation,
    /// `OutputType` of the files.
    pub output_type: OutputType,
}

/// `Transformation` of a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriterTransformation {
    /// Results with the metadata of their executions; the default.
    #[default]
    None,
    /// Outputs alone.
    Compact,
    /// Outputs alone, arrays among them taken apart.
    Flatten,
}

/// `OutputType` of a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutputType {
    /// An array; the default.
    #[default]
    Json,
    /// A JSON value in every line.
    Jsonl,
}

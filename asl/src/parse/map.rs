//! Map states, inline and distributed.

use std::sync::Arc;

use super::context::StateOutline;
use super::fields::Fields;
use super::variables::Scope;
use super::{flow, scalar, task, template};
use crate::definition::{
    Batcher, ExecutionType, HeaderLocation, InputType, Items, Map, Mode, OutputType, QueryLanguage,
    Reader, Resource, Transformation, WorkflowType, Writer, WriterTransformation,
};
use crate::problem::{Code, Problem};

pub(super) const FIELDS: &[&str] = &[
    "ItemBatcher",
    "ItemProcessor",
    "ItemReader",
    "ItemSelector",
    "Items",
    "ItemsPath",
    "Iterator",
    "Label",
    "MaxConcurrency",
    "MaxConcurrencyPath",
    "ResultWriter",
    "ToleratedFailureCount",
    "ToleratedFailureCountPath",
    "ToleratedFailurePercentage",
    "ToleratedFailurePercentagePath",
];

const PROCESSOR: &[&str] = &["Comment", "ProcessorConfig", "StartAt", "States"];
const MAX_LABEL: usize = 40;
const MAX_ITEMS: u64 = 100_000_000;
const MAX_BATCH_BYTES: u64 = 262_144;

pub(super) fn map(
    fields: &Fields<'_>,
    language: QueryLanguage,
    workflow: WorkflowType,
    scope: &Scope,
    noted: &mut StateOutline,
) -> Option<Map> {
    fields.at_most_one(&["ItemProcessor", "Iterator"]);
    fields.at_most_one(&["ItemSelector", "Parameters"]);
    fields.at_most_one(&["MaxConcurrency", "MaxConcurrencyPath"]);
    fields.at_most_one(&["ToleratedFailureCount", "ToleratedFailureCountPath"]);
    fields.at_most_one(&[
        "ToleratedFailurePercentage",
        "ToleratedFailurePercentagePath",
    ]);
    let name = if fields.has("Iterator") && !fields.has("ItemProcessor") {
        "Iterator"
    } else {
        fields.required(&["ItemProcessor"]);
        "ItemProcessor"
    };
    let processor = fields.object(name);
    let mode = processor.as_ref().map(mode).unwrap_or_default();
    let body = processor.and_then(|processor| {
        processor.only(PROCESSOR);
        let (flow, outline) = match mode {
            Mode::Inline => flow::flow(&processor, workflow, scope),
            // Child executions see no variables of their parent.
            Mode::Distributed(children) => {
                let workflow = match children {
                    ExecutionType::Standard => WorkflowType::Standard,
                    ExecutionType::Express => WorkflowType::Express,
                };
                flow::flow(&processor, workflow, &Scope::default())
            }
        };
        noted.flows.push(outline);
        flow
    });
    if let Mode::Distributed(_) = mode {
        if workflow == WorkflowType::Express {
            fields.problem("Express state machine does not support distributed Map states");
        }
        noted.label = label(fields);
    }
    Some(Map {
        mode,
        items: items(fields, language),
        item_selector: template::template(fields, "ItemSelector", language)
            .or_else(|| template::template(fields, "Parameters", language)),
        max_concurrency: scalar::integer(
            fields,
            "MaxConcurrency",
            Some("MaxConcurrencyPath"),
            language,
            0..=u64::MAX,
        ),
        reader: fields
            .object("ItemReader")
            .and_then(|fields| reader(&fields, language)),
        batcher: fields
            .object("ItemBatcher")
            .map(|fields| batcher(&fields, language)),
        writer: fields
            .object("ResultWriter")
            .map(|fields| writer(&fields, language)),
        tolerated_failure_count: scalar::integer(
            fields,
            "ToleratedFailureCount",
            Some("ToleratedFailureCountPath"),
            language,
            0..=u64::MAX,
        ),
        tolerated_failure_percentage: scalar::percentage(
            fields,
            "ToleratedFailurePercentage",
            "ToleratedFailurePercentagePath",
            language,
        ),
        label: noted.label.as_deref().map(Arc::from),
        processor: Arc::new(body?),
    })
}

fn mode(processor: &Fields<'_>) -> Mode {
    let Some(config) = processor.object("ProcessorConfig") else {
        return Mode::Inline;
    };
    config.only(&["Comment", "ExecutionType", "Mode"]);
    let distributed = config
        .choice("Mode", &[("INLINE", false), ("DISTRIBUTED", true)])
        .unwrap_or_default();
    let children = config.choice(
        "ExecutionType",
        &[
            ("STANDARD", ExecutionType::Standard),
            ("EXPRESS", ExecutionType::Express),
        ],
    );
    if !distributed {
        return Mode::Inline;
    }
    Mode::Distributed(children.unwrap_or_default())
}

fn label(fields: &Fields<'_>) -> Option<String> {
    let label = fields.text("Label")?;
    let wrong = if label.is_empty() || label.chars().count() > MAX_LABEL {
        format!("must have 1 to {MAX_LABEL} characters")
    } else if label
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "?*<>{}[]:;,\\|^~$#%&`\"".contains(c))
    {
        "must not contain white space, wildcards, brackets, control or special characters".into()
    } else {
        return Some(label.to_string());
    };
    fields.cx().report(Problem {
        path: fields.at("Label"),
        code: Code::InvalidLabelName,
        message: format!("The label '{label}' {wrong}"),
        hint: None,
    });
    None
}

fn items(fields: &Fields<'_>, language: QueryLanguage) -> Items {
    let found = match language {
        QueryLanguage::JsonPath if fields.has("ItemsPath") => {
            template::path(fields, "ItemsPath").map(Items::Path)
        }
        QueryLanguage::Jsonata => {
            template::template(fields, "Items", language).map(Items::Template)
        }
        QueryLanguage::JsonPath => None,
    };
    found.unwrap_or(Items::Input)
}

const READER: &[&str] = &[
    "Arguments",
    "Comment",
    "Parameters",
    "ReaderConfig",
    "Resource",
];
const READER_CONFIG: &[&str] = &[
    "CSVDelimiter",
    "CSVHeaderLocation",
    "CSVHeaders",
    "Comment",
    "InputType",
    "ItemsPointer",
    "ManifestType",
    "MaxItems",
    "MaxItemsPath",
    "Transformation",
];

fn reader(fields: &Fields<'_>, language: QueryLanguage) -> Option<Reader> {
    fields.only(READER);
    fields.required(&["Resource"]);
    let resource = task::resource(fields);
    let mut reader = Reader {
        resource: resource.unwrap_or_else(|| Resource::new("")),
        arguments: arguments(fields, language),
        input_type: None,
        csv_headers: HeaderLocation::FirstRow,
        csv_delimiter: ',',
        items_pointer: None,
        max_items: None,
        transformation: Transformation::None,
    };
    if let Some(config) = fields.object("ReaderConfig") {
        read_config(&config, language, &mut reader);
    }
    (!reader.resource.as_str().is_empty()).then_some(reader)
}

fn read_config(config: &Fields<'_>, language: QueryLanguage, reader: &mut Reader) {
    config.only(READER_CONFIG);
    config.at_most_one(&["MaxItems", "MaxItemsPath"]);
    reader.input_type = config.choice(
        "InputType",
        &[
            ("CSV", InputType::Csv),
            ("JSON", InputType::Json),
            ("JSONL", InputType::Jsonl),
            ("PARQUET", InputType::Parquet),
            ("MANIFEST", InputType::Manifest),
        ],
    );
    let manifest = config.choice("ManifestType", &[("ATHENA_DATA", 0), ("S3_INVENTORY", 1)]);
    if manifest.is_some() && reader.input_type.is_none() {
        reader.input_type = Some(InputType::Manifest);
    }
    if let Some(delimiter) = config.choice(
        "CSVDelimiter",
        &[
            ("COMMA", ','),
            ("PIPE", '|'),
            ("SEMICOLON", ';'),
            ("SPACE", ' '),
            ("TAB", '\t'),
        ],
    ) {
        reader.csv_delimiter = delimiter;
    }
    let given = config.choice(
        "CSVHeaderLocation",
        &[("FIRST_ROW", false), ("GIVEN", true)],
    );
    if given == Some(true) {
        config.required(&["CSVHeaders"]);
    }
    if let Some(values) = config.array("CSVHeaders") {
        let names: Vec<Arc<str>> = values
            .iter()
            .filter_map(|value| value.as_str())
            .map(Arc::from)
            .collect();
        if names.len() < values.len() {
            config.problem_at("CSVHeaders", "Expected an array of values of type String");
        }
        if given == Some(true) {
            reader.csv_headers = HeaderLocation::Given(names);
        }
    }
    reader.items_pointer = config.text("ItemsPointer");
    if reader
        .items_pointer
        .as_ref()
        .is_some_and(|p| !p.is_empty() && !p.starts_with('/'))
    {
        config.problem_at(
            "ItemsPointer",
            "A JSON pointer begins with '/': \"/orders/items\"",
        );
    }
    reader.max_items = scalar::integer(
        config,
        "MaxItems",
        Some("MaxItemsPath"),
        language,
        0..=MAX_ITEMS,
    );
    reader.transformation = config
        .choice(
            "Transformation",
            &[
                ("NONE", Transformation::None),
                ("LOAD_AND_FLATTEN", Transformation::LoadAndFlatten),
            ],
        )
        .unwrap_or_default();
}

/// `Parameters` in JSONPath, `Arguments` in JSONata.
fn arguments(fields: &Fields<'_>, language: QueryLanguage) -> Option<crate::template::Template> {
    let (right, wrong, other) = match language {
        QueryLanguage::JsonPath => ("Parameters", "Arguments", QueryLanguage::Jsonata),
        QueryLanguage::Jsonata => ("Arguments", "Parameters", QueryLanguage::JsonPath),
    };
    if fields.has(wrong) {
        fields.problem(format!(
            "The QueryLanguage is set to '{}', but field '{wrong}' is only supported for the '{}' \
             QueryLanguage",
            language.name(),
            other.name()
        ));
    }
    template::template(fields, right, language)
}

const BATCHER: &[&str] = &[
    "MaxInputBytesPerBatch",
    "MaxInputBytesPerBatchPath",
    "MaxItemsPerBatch",
    "MaxItemsPerBatchPath",
    "BatchInput",
    "Comment",
];

fn batcher(fields: &Fields<'_>, language: QueryLanguage) -> Batcher {
    fields.only(BATCHER);
    fields.at_most_one(&["MaxItemsPerBatch", "MaxItemsPerBatchPath"]);
    fields.at_most_one(&["MaxInputBytesPerBatch", "MaxInputBytesPerBatchPath"]);
    if !BATCHER[..4].iter().any(|name| fields.has(name)) {
        fields.problem(
            "At least one of these fields is required: [MaxItemsPerBatch, MaxInputBytesPerBatch]",
        );
    }
    Batcher {
        max_items: scalar::integer(
            fields,
            "MaxItemsPerBatch",
            Some("MaxItemsPerBatchPath"),
            language,
            1..=u64::MAX,
        ),
        max_bytes: scalar::integer(
            fields,
            "MaxInputBytesPerBatch",
            Some("MaxInputBytesPerBatchPath"),
            language,
            1..=MAX_BATCH_BYTES,
        ),
        batch_input: template::template(fields, "BatchInput", language),
    }
}

fn writer(fields: &Fields<'_>, language: QueryLanguage) -> Writer {
    fields.only(&[
        "Arguments",
        "Comment",
        "Parameters",
        "Resource",
        "WriterConfig",
    ]);
    if !fields.has("Resource") && !fields.has("WriterConfig") {
        fields.problem("At least one of these fields is required: [Resource, WriterConfig]");
    }
    let mut writer = Writer {
        resource: task::resource(fields),
        arguments: arguments(fields, language),
        transformation: WriterTransformation::None,
        output_type: OutputType::Json,
    };
    if let Some(config) = fields.object("WriterConfig") {
        config.only(&["Comment", "OutputType", "Transformation"]);
        writer.transformation = config
            .choice(
                "Transformation",
                &[
                    ("NONE", WriterTransformation::None),
                    ("COMPACT", WriterTransformation::Compact),
                    ("FLATTEN", WriterTransformation::Flatten),
                ],
            )
            .unwrap_or_default();
        writer.output_type = config
            .choice(
                "OutputType",
                &[("JSON", OutputType::Json), ("JSONL", OutputType::Jsonl)],
            )
            .unwrap_or_default();
    }
    writer
}

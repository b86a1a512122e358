//! The keys of a request that is written out, for a service that aif does not know.

use crate::recipe::schema::{Field, Type};

const STATUS: Type = Type::Whole { min: 100, max: 599 };

static CHECK: &[Field] = &[
    Field::new("name", Type::Text, "how errors call it").default("its pointer"),
    Field::new(
        "pointer",
        Type::Text,
        "JSON pointer into the answer, such as /outputs/0/name",
    )
    .required(),
    Field::new("exists", Type::Bool, "is something there?"),
    Field::new("equals", Type::Any, "the value that is there"),
    Field::new(
        "matches",
        Type::Text,
        "regular expression that finds something in the text that is there",
    ),
];

static EXPECT: &[Field] = &[
    Field::new(
        "status",
        Type::OneOrMore(&STATUS),
        "status of a good answer, or a list of them",
    )
    .default("200"),
    Field::new(
        "checks",
        Type::List(&Type::Map(CHECK)),
        "what the JSON of a good answer holds",
    ),
    Field::new(
        "prompt_tokens",
        Type::Text,
        "JSON pointer to the number of prompt tokens; prompt_length is then in tokens of the service, else in words",
    ),
    Field::new(
        "output_tokens",
        Type::Text,
        "JSON pointer to the number of output tokens",
    ),
];

static REQUEST: &[Field] = &[
    Field::new(
        "method",
        Type::Choice {
            now: &["GET", "POST", "PUT", "PATCH", "DELETE"],
            later: &["HEAD"],
        },
        "method",
    )
    .default("POST with a body, else GET"),
    Field::new(
        "path",
        Type::Text,
        "path and query; may hold {index} and its like, as the body",
    )
    .required()
    .expanded(),
    Field::new(
        "body",
        Type::Any,
        "JSON as YAML, or a text. Put in for each request, as JSON has it: {prompt} {prompt_length} {max_tokens} {index} {seed} {model} {random} {random:LEAST:MOST} {floats:COUNT}",
    )
    .expanded(),
    Field::new("expect", Type::Map(EXPECT), "what a good answer is"),
];

pub(super) const FIELD: Field = Field::new(
    "request",
    Type::Map(REQUEST),
    "the request, written out (api: http)",
);

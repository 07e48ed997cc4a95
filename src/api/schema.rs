//! Pieces of schema that the types share: patterns and hand-written parts.
//!
//! They are exactly what the existing definitions say: stricter would refuse manifests that applied
//! before, looser would let through what those refused.

use schemars::{Schema, SchemaGenerator, json_schema};

/// One number and one unit of seconds, minutes or hours: `30s`, `1.5h`; not `1h30m`.
pub(super) const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(s|m|h))$";

/// As [`DURATION`], with days allowed.
pub(super) const DURATION_OR_DAYS: &str = r"^([0-9]+(\.[0-9]+)?(s|m|h|d))$";

/// The name of an object that a resource refers to.
pub(super) const OBJECT_NAME: &str = "^([a-z0-9.-]{1,253})$";

/// The name of a namespace that a resource refers to.
pub(super) const NAMESPACE_NAME: &str = "^([a-z0-9-]{1,63})$";

/// An integer without a `format`: the existing definitions give none for these fields.
pub(super) fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer" })
}

/// A text that is not looked at any closer.
pub(super) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// A time, as Kubernetes writes it.
pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// `status.conditions`: the standard condition with the constraints of its Go type, which the
/// schema of `k8s-openapi` lacks. An atomic list, as in the existing definitions.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "description": "One aspect of the state of this resource.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When status last changed.",
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "What is the case and, if something is wrong, what to do about it.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The metadata.generation that this condition speaks about.",
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "The cause as one word, made for programs.",
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "True, False, or Unknown.",
                },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "The aspect, for example Ready.",
                },
            },
        },
    })
}

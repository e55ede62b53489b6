//! What a VM has beside its object.

use crate::kind::{ParamDef, ParamShape, SubAnswer, SubDef, SubMethod};

pub(super) const SUBS: &[SubDef] = &[SubDef {
    name: "logs",
    method: SubMethod::Get,
    answer: SubAnswer::Content("application/octet-stream"),
    params: &[ParamDef { name: "tail", shape: ParamShape::Number, summary: "Only the last lines." }],
    summary: "What its guest said on its serial console, as far as it is kept",
}];

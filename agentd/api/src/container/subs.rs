//! What a container has beside its object.

use crate::kind::{ParamDef, ParamShape, SubAnswer, SubDef, SubMethod};

const PATH: ParamDef = ParamDef {
    name: "path",
    shape: ParamShape::Text,
    summary: "An absolute path in the container, without '..'.",
};

pub(super) const SUBS: &[SubDef] = &[
    SubDef {
        name: "exec",
        method: SubMethod::Get,
        answer: SubAnswer::Frames,
        params: &[],
        summary: "Runs a program in it. First comes what is wanted (ExecWish, as JSON) as In and InEnd, then the program's \
                  input; Out, Err and Exit answer",
    },
    SubDef {
        name: "attach",
        method: SubMethod::Get,
        answer: SubAnswer::Frames,
        params: &[flag("watch", "Sends it nothing.")],
        summary: "Its own input and output, from now on: Out and Err are sent, Exit once it has ended; In, InEnd, Resize and \
                  Signal are taken",
    },
    SubDef {
        name: "logs",
        method: SubMethod::Get,
        answer: SubAnswer::Frames,
        params: &[
            number("tail", "Only the last lines of what was said before."),
            text("since", "Only what was said since this time (RFC 3339), to the second."),
            flag("follow", "Goes on sending what comes."),
            flag("timestamps", "Each line begins with its time."),
        ],
        summary: "What it said: Out and Err, each as it came, and End",
    },
    SubDef {
        name: "files",
        method: SubMethod::Get,
        answer: SubAnswer::Content("application/x-tar"),
        params: &[PATH],
        summary: "A file or folder of it, as a tar archive with one top entry",
    },
    SubDef {
        name: "files",
        method: SubMethod::Put,
        answer: SubAnswer::Json,
        params: &[PATH],
        summary: "Unpacks a tar archive in it: into a folder that is there, or as what is not there yet",
    },
    json("stats", &[], "What it uses: CPU, memory, disk, network"),
    json("top", &[], "Its processes"),
    json("diff", &[], "What of its files differs from its image"),
    SubDef {
        name: "commit",
        method: SubMethod::Post,
        answer: SubAnswer::Json,
        params: &[],
        summary: "Makes an image of what it holds now, under the name that the body (ContainerCommit, as JSON) says",
    },
    json(
        "wait",
        &[number("timeout", "Seconds after which the answer is that it is still up; for ever where absent.")],
        "Answers once it is no longer up, with its exit code",
    ),
];

const fn json(name: &'static str, params: &'static [ParamDef], summary: &'static str) -> SubDef {
    SubDef { name, method: SubMethod::Get, answer: SubAnswer::Json, params, summary }
}
const fn number(name: &'static str, summary: &'static str) -> ParamDef {
    ParamDef { name, shape: ParamShape::Number, summary }
}
const fn flag(name: &'static str, summary: &'static str) -> ParamDef {
    ParamDef { name, shape: ParamShape::Flag, summary }
}
const fn text(name: &'static str, summary: &'static str) -> ParamDef {
    ParamDef { name, shape: ParamShape::Text, summary }
}

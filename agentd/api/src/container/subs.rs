//! What a container has beside its object.

use crate::kind::{ParamDef, SubAnswer, SubDef, SubMethod};

const PATH: ParamDef = ParamDef::text("path", "An absolute path in the container, without '..'.");

pub(super) const SUBS: &[SubDef] = &[
    SubDef::get(
        "exec",
        SubAnswer::Frames,
        &[],
        "Runs a program in it. First comes what is wanted (ExecWish, as JSON) as In and InEnd, then the program's \
                  input; Out, Err and Exit answer",
    ),
    SubDef::get(
        "attach",
        SubAnswer::Frames,
        &[
            ParamDef::flag("watch", "Sends it nothing."),
            ParamDef::flag("early", "Also at one that is off: to be there when it is started."),
        ],
        "Its own input and output, from now on: Out and Err are sent, Exit once it has ended; In, InEnd, Resize and \
                  Signal are taken",
    ),
    SubDef::get(
        "logs",
        SubAnswer::Frames,
        &[
            ParamDef::number("tail", "Only the last lines of what was said before."),
            ParamDef::text("since", "Only what was said since this time (RFC 3339), to the second."),
            ParamDef::flag("follow", "Goes on sending what comes."),
            ParamDef::flag("timestamps", "Each line begins with its time."),
        ],
        "What it said: Out and Err, each as it came, and End",
    ),
    SubDef::get(
        "files",
        SubAnswer::Content("application/x-tar"),
        &[PATH],
        "A file or folder of it, as a tar archive with one top entry",
    ),
    SubDef {
        name: "files",
        method: SubMethod::Put,
        answer: SubAnswer::Json,
        params: &[PATH],
        summary: "Unpacks a tar archive in it: into a folder that is there, or as what is not there yet",
    },
    SubDef::get("stats", SubAnswer::Json, &[], "What it uses: CPU, memory, disk, network"),
    SubDef::get("top", SubAnswer::Json, &[], "Its processes"),
    SubDef::get("diff", SubAnswer::JsonList, &[], "What of its files differs from its image"),
    SubDef {
        name: "commit",
        method: SubMethod::Post,
        answer: SubAnswer::Json,
        params: &[],
        summary: "Makes an image of what it holds now, under the name that the body (ContainerCommit, as JSON) says",
    },
    SubDef::get(
        "wait",
        SubAnswer::Json,
        &[ParamDef::number(
            "timeout",
            "Seconds after which the answer is that it is still up; for ever where absent.",
        )],
        "Answers once it is no longer up, with its exit code",
    ),
];

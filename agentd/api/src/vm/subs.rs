//! What a VM has beside its object.

use crate::kind::{ParamDef, SubAnswer, SubDef, SubMethod};

const TAIL: ParamDef = ParamDef::number("tail", "Only the last lines of what was said before.");

const PATH: ParamDef = ParamDef::text("path", "An absolute path in the guest, without '..'.");

const EXEC: SubDef = SubDef::get(
    "exec",
    SubAnswer::Frames,
    &[],
    "Runs a program in its guest. First comes what is wanted (ExecWish, as JSON) as In and InEnd, then the \
              program's input; Out, Err and Exit answer",
);

const FILES_OUT: SubDef = SubDef::get(
    "files",
    SubAnswer::Content("application/x-tar"),
    &[PATH],
    "A file or folder of its guest, as a tar archive with one top entry",
);

const FILES_IN: SubDef = SubDef {
    name: "files",
    method: SubMethod::Put,
    answer: SubAnswer::Json,
    params: &[PATH],
    summary: "Unpacks a tar archive in its guest: into a folder that is there, or as what is not there yet",
};

const EXPORT: SubDef = SubDef::get(
    "export",
    SubAnswer::Content("application/x-tar"),
    &[],
    "The VM as an archive: its spec and its own disks, compressed, with checksums. `POST /v1/archives` takes it. \
              Snapshots and attached volumes are not part of it",
);

pub(super) const SUBS: &[SubDef] = &[
    EXEC,
    EXPORT,
    FILES_OUT,
    FILES_IN,
    SubDef::get(
        "console",
        SubAnswer::Frames,
        &[
            TAIL,
            ParamDef::flag("watch", "Types nothing."),
            ParamDef::flag("force", "Takes over from whoever types now."),
        ],
        "Its serial console: first what was said before (64 KiB of it, unless `tail` says otherwise), then what comes. Out, \
        Note, and End once the VM is gone are sent; In and Resize are taken",
    ),
    SubDef::get(
        "logs",
        SubAnswer::Content("application/octet-stream"),
        &[
            TAIL,
            ParamDef::text("since", "Only what was said since this time (RFC 3339), to the second."),
            ParamDef::flag("follow", "Goes on sending what comes."),
        ],
        "What its guest said on its serial console, as far as it is kept",
    ),
    SubDef::get("screenshot", SubAnswer::Content("image/png"), &[], "A picture of its screen"),
    SubDef::get(
        "vnc",
        SubAnswer::Frames,
        &[],
        "VNC to its screen, for one connection. First comes a Json with the `ticket`, which \
        is the password of this connection, and for how many `seconds` it holds; a Json connects then, and Out is what \
        the screen sends",
    ),
];

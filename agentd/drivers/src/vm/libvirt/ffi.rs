//! The one place of agentd that calls C by itself: libvirt's event loop, its callbacks, its bulk figures and calls for
//! which `virt` has no safe interface, or one that leaks.
//!
//! What makes it sound: a callback's data is a boxed [`Listener`] that libvirt owns from the registration on and frees
//! once through `free_listener`, after the last call; the listener is Send and Sync, since libvirt calls it from the
//! event loop's thread; pointers that libvirt lends for the time of a callback are not kept; no panic crosses into C.

#![expect(unsafe_code, reason = "libvirt's event callbacks are reached only through its C interface")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use agentd_api::vm::AlarmKind;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use super::library;
use super::stats::Record;

/// Told of what happens on a connection, on the event loop's thread. Must not block nor call libvirt.
pub(super) trait Listener: Send + Sync {
    /// A domain was defined, undefined, started, stopped, paused, ...
    fn changed(&self, id: Uuid, name: &str);
    /// A guest panicked, or stopped feeding its watchdog.
    fn alarmed(&self, id: Uuid, name: &str, what: AlarmKind);
    /// The connection is gone.
    fn closed(&self, why: &str);
}

/// Loads libvirt and starts its event loop, once in a process. Must have been called before the first connection is
/// opened, and before anything else of libvirt is. The loop's thread ends with the process: libvirt has no way to end
/// it, and later connections need it.
pub(super) fn ensure_event_loop() -> Result<(), String> {
    library::load()?;
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            // Else libvirt prints each error to stderr, beside our own log of it.
            virt::error::clear_error_callback();
            virt::event::event_register_default_impl().map_err(|error| error.to_string())?;
            std::thread::Builder::new()
                .name("agentd-events".to_owned())
                .spawn(run_loop)
                .map(|_| ())
                .map_err(|error| error.to_string())
        })
        .clone()
}

fn run_loop() {
    loop {
        if let Err(error) = virt::event::event_run_default_impl() {
            tracing::warn!(%error, "libvirt's event loop failed once");
            // Not a readiness wait: keeps a loop that fails at once from taking a whole core.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Writes the guest's memory into a file and ends the domain.
pub(super) fn save(domain: &Domain, file: &CStr) -> Result<(), Error> {
    // SAFETY: the domain is held by `domain`, and `file` is a C string that outlives the call.
    match unsafe { sys::virDomainSave(domain.as_ptr(), file.as_ptr()) } {
        0.. => Ok(()),
        _ => Err(Error::last_error()),
    }
}

/// Has libvirt break off what it is at with the domain.
pub(super) fn abort_job(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the domain is held by `domain`.
    match unsafe { sys::virDomainAbortJob(domain.as_ptr()) } {
        0.. => Ok(()),
        _ => Err(Error::last_error()),
    }
}

/// Registered callbacks of one connection. Must be [`ended`](Self::end) before the connection is closed, since each
/// registration keeps it open.
#[derive(Debug)]
pub(super) struct Subscription {
    events: Vec<c_int>,
}

impl Subscription {
    /// `listener` makes the listener anew for each registration.
    pub(super) fn begin(connect: &Connect, listener: impl Fn() -> Box<dyn Listener>) -> Result<Self, Error> {
        let closed = Box::into_raw(Box::new(listener())).cast::<c_void>();
        // SAFETY: the connection is open; `closed` came from `into_raw` and is freed by `free_listener` only.
        let done = unsafe {
            sys::virConnectRegisterCloseCallback(
                connect.as_ptr(),
                Some(on_close),
                closed,
                Some(free_listener),
            )
        };
        if done < 0 {
            let error = Error::last_error();
            // SAFETY: libvirt took no ownership, since it failed.
            unsafe { free_listener(closed) };
            return Err(error);
        }
        let mut all = Self { events: Vec::new() };
        for kind in [LIFECYCLE, WATCHDOG, PLUGGED, UNPLUGGED, NOT_UNPLUGGED] {
            match register(connect, kind, &listener) {
                Ok(event) => all.events.push(event),
                Err(error) => {
                    all.end(connect);
                    return Err(error);
                }
            }
        }
        Ok(all)
    }

    /// Errors are of no use to anyone: the connection is about to be closed, or is gone already.
    pub(super) fn end(self, connect: &Connect) {
        // SAFETY: the connection is open on our side, and the callbacks were registered on it by `begin`.
        unsafe {
            for event in self.events {
                sys::virConnectDomainEventDeregisterAny(connect.as_ptr(), event);
            }
            sys::virConnectUnregisterCloseCallback(connect.as_ptr(), Some(on_close));
        }
    }
}

/// What libvirt tells of all domains that are not off, in one call. A domain that is busy is told of in part.
pub(super) fn domain_stats(connect: &Connect) -> Result<Vec<Record>, Error> {
    let what = sys::VIR_DOMAIN_STATS_CPU_TOTAL
        | sys::VIR_DOMAIN_STATS_BALLOON
        | sys::VIR_DOMAIN_STATS_VCPU
        | sys::VIR_DOMAIN_STATS_INTERFACE
        | sys::VIR_DOMAIN_STATS_BLOCK;
    let which = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    let mut list: *mut sys::virDomainStatsRecordPtr = std::ptr::null_mut();
    // SAFETY: the connection is open; libvirt writes a list that is ours until it is freed below.
    let count = unsafe { sys::virConnectGetAllDomainStats(connect.as_ptr(), what, &mut list, which) };
    let Ok(count) = usize::try_from(count) else { return Err(Error::last_error()) };
    // SAFETY: the list has `count` records, each with a domain and `nparams` parameters, all valid until it is freed.
    let records = unsafe {
        let records = std::slice::from_raw_parts(list, count).iter().filter_map(|r| record(&**r)).collect();
        sys::virDomainStatsRecordListFree(list);
        records
    };
    Ok(records)
}

/// # Safety
/// The record is one of libvirt's, not freed yet.
unsafe fn record(from: &sys::virDomainStatsRecord) -> Option<Record> {
    let mut id = [0u8; 16];
    // SAFETY: the domain is the record's; libvirt writes 16 bytes, and lends the name as long as the record lives.
    let name = unsafe {
        if sys::virDomainGetUUID(from.dom, id.as_mut_ptr()) < 0 {
            return None;
        }
        text(sys::virDomainGetName(from.dom))?
    };
    let mut record = Record { id: Uuid::from_bytes(id), name, ..Record::default() };
    let count = usize::try_from(from.nparams).ok().filter(|_| !from.params.is_null()).unwrap_or(0);
    // SAFETY: there are `nparams` of them; the type says which member of the union was written; fields and texts end
    // in a NUL.
    let params = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(from.params, count) } };
    for param in params {
        // SAFETY: as above.
        unsafe {
            let Some(field) = text(param.field.as_ptr()) else { continue };
            let number = match param.type_ as sys::virTypedParameterType {
                sys::VIR_TYPED_PARAM_INT => u64::try_from(param.value.i).ok(),
                sys::VIR_TYPED_PARAM_UINT => Some(u64::from(param.value.ui)),
                sys::VIR_TYPED_PARAM_LLONG => u64::try_from(param.value.l).ok(),
                sys::VIR_TYPED_PARAM_ULLONG => Some(param.value.ul),
                sys::VIR_TYPED_PARAM_STRING => {
                    record.texts.extend(text(param.value.s).map(|text| (field.clone(), text)));
                    None
                }
                _ => None,
            };
            record.numbers.extend(number.map(|number| (field, number)));
        }
    }
    Some(record)
}

/// # Safety
/// Null, or a text that ends in a NUL and lives as long as this call.
unsafe fn text(from: *const c_char) -> Option<String> {
    // SAFETY: the caller's word.
    (!from.is_null()).then(|| unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned())
}

const LIFECYCLE: c_int = sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int;
const WATCHDOG: c_int = sys::VIR_DOMAIN_EVENT_ID_WATCHDOG as c_int;
const PLUGGED: c_int = sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED as c_int;
const UNPLUGGED: c_int = sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED as c_int;
const NOT_UNPLUGGED: c_int = sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED as c_int;

/// One of the events above. Those of devices name the device, which is not looked at.
fn register(
    connect: &Connect,
    kind: c_int,
    listener: &impl Fn() -> Box<dyn Listener>,
) -> Result<c_int, Error> {
    type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
    type Lifecycle =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
    type Watchdog = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
    type Device = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
    let changed = Box::into_raw(Box::new(listener())).cast::<c_void>();
    // SAFETY: libvirt calls a callback of each kind with the arguments of the function that is given for it here; its C
    // interface asks for this cast (VIR_DOMAIN_EVENT_CALLBACK). The connection is open; `changed` came from `into_raw`
    // and is freed by `free_listener` only, here where libvirt took no ownership because it failed.
    unsafe {
        let callback = match kind {
            LIFECYCLE => std::mem::transmute::<Lifecycle, Generic>(on_lifecycle),
            WATCHDOG => std::mem::transmute::<Watchdog, Generic>(on_watchdog),
            _ => std::mem::transmute::<Device, Generic>(on_device),
        };
        let event = sys::virConnectDomainEventRegisterAny(
            connect.as_ptr(),
            std::ptr::null_mut(),
            kind,
            Some(callback),
            changed,
            Some(free_listener),
        );
        if event < 0 {
            let error = Error::last_error();
            free_listener(changed);
            return Err(error);
        }
        Ok(event)
    }
}

unsafe extern "C" fn free_listener(data: *mut c_void) {
    // SAFETY: `data` came from `into_raw` of exactly this type, and libvirt calls this once.
    let listener = unsafe { Box::from_raw(data.cast::<Box<dyn Listener>>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(listener)));
}

unsafe extern "C" fn on_close(_: sys::virConnectPtr, reason: c_int, data: *mut c_void) {
    // SAFETY: libvirt frees `data` only after the last call.
    let listener = unsafe { &*data.cast::<Box<dyn Listener>>() };
    let why = match u32::try_from(reason) {
        Ok(sys::VIR_CONNECT_CLOSE_REASON_EOF) => "libvirt ended the connection",
        Ok(sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE) => "libvirt stopped answering",
        Ok(sys::VIR_CONNECT_CLOSE_REASON_CLIENT) => "the connection was closed",
        _ => "the connection failed",
    };
    let _ = catch_unwind(AssertUnwindSafe(|| listener.closed(why)));
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    data: *mut c_void,
) -> c_int {
    let panicked = event == sys::VIR_DOMAIN_EVENT_CRASHED as c_int
        && detail == sys::VIR_DOMAIN_EVENT_CRASHED_PANICKED as c_int;
    // SAFETY: libvirt lends the domain for the time of this call, and frees `data` only after the last call.
    unsafe { tell(domain, data, panicked.then_some(AlarmKind::Panic)) };
    0
}

unsafe extern "C" fn on_watchdog(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _action: c_int,
    data: *mut c_void,
) {
    // SAFETY: as above.
    unsafe { tell(domain, data, Some(AlarmKind::Watchdog)) };
}

unsafe extern "C" fn on_device(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    data: *mut c_void,
) {
    // SAFETY: as above.
    unsafe { tell(domain, data, None) };
}

/// # Safety
/// `domain` is one that libvirt lends to a callback, and `data` what the callback was registered with.
unsafe fn tell(domain: sys::virDomainPtr, data: *mut c_void, alarm: Option<AlarmKind>) {
    let mut id = [0u8; 16];
    // SAFETY: libvirt lends the domain and its name for the time of this call, writes 16 bytes of UUID, and frees `data`
    // only after the last call. None of these asks the daemon.
    let (listener, name) = unsafe {
        if sys::virDomainGetUUID(domain, id.as_mut_ptr()) < 0 {
            return;
        }
        let name = sys::virDomainGetName(domain);
        if name.is_null() {
            return;
        }
        (&*data.cast::<Box<dyn Listener>>(), CStr::from_ptr(name))
    };
    let (id, name) = (Uuid::from_bytes(id), name.to_string_lossy());
    let _ = catch_unwind(AssertUnwindSafe(|| match alarm {
        Some(what) => listener.alarmed(id, &name, what),
        None => listener.changed(id, &name),
    }));
}

/// Has QEMU's guest agent freeze all file systems; gives how many. Blocks until the agent has, or libvirt gives up.
pub(super) fn freeze(domain: &Domain) -> Result<u32, Error> {
    // SAFETY: the domain is valid while it is borrowed; no mount points are given, which means all.
    counted(unsafe { sys::virDomainFSFreeze(domain.as_ptr(), std::ptr::null_mut(), 0, 0) })
}

/// Has QEMU's guest agent thaw what is frozen; gives how many.
pub(super) fn thaw(domain: &Domain) -> Result<u32, Error> {
    // SAFETY: as above.
    counted(unsafe { sys::virDomainFSThaw(domain.as_ptr(), std::ptr::null_mut(), 0, 0) })
}

fn counted(answer: c_int) -> Result<u32, Error> {
    u32::try_from(answer).map_err(|_| Error::last_error())
}

/// Sets figures of a disk of a running guest, by libvirt's names of them.
pub(super) fn set_block_tune(domain: &Domain, disk: &CStr, figures: &[(&CStr, u64)]) -> Result<(), Error> {
    let mut params = Params::default();
    for (name, value) in figures {
        params.add(name, Figure::Long(*value))?;
    }
    // SAFETY: the domain is live as long as it is borrowed; libvirt reads the parameters and the name and keeps neither.
    let done = unsafe {
        let flags = sys::VIR_DOMAIN_AFFECT_LIVE;
        sys::virDomainSetBlockIoTune(domain.as_ptr(), disk.as_ptr(), params.list, params.count, flags)
    };
    if done < 0 { Err(Error::last_error()) } else { Ok(()) }
}

/// Sets figures of an interface of a running guest, by libvirt's names of them.
pub(super) fn set_nic_tune(domain: &Domain, tap: &CStr, figures: &[(&CStr, u32)]) -> Result<(), Error> {
    let mut params = Params::default();
    for (name, value) in figures {
        params.add(name, Figure::Int(*value))?;
    }
    // SAFETY: as in `set_block_tune`.
    let done = unsafe {
        let flags = sys::VIR_DOMAIN_AFFECT_LIVE;
        sys::virDomainSetInterfaceParameters(domain.as_ptr(), tap.as_ptr(), params.list, params.count, flags)
    };
    if done < 0 { Err(Error::last_error()) } else { Ok(()) }
}

#[derive(Clone, Copy)]
enum Figure {
    Int(u32),
    Long(u64),
}

/// libvirt's own list of named figures, freed with it.
struct Params {
    list: sys::virTypedParameterPtr,
    count: c_int,
    room: c_int,
}

impl Default for Params {
    fn default() -> Self {
        Self { list: std::ptr::null_mut(), count: 0, room: 0 }
    }
}

impl Params {
    fn add(&mut self, name: &CStr, figure: Figure) -> Result<(), Error> {
        let (list, count, room) = (&raw mut self.list, &raw mut self.count, &raw mut self.room);
        // SAFETY: the three are the list's own, which begins empty, and libvirt alone changes them; it copies the name.
        let done = unsafe {
            match figure {
                Figure::Int(value) => sys::virTypedParamsAddUInt(list, count, room, name.as_ptr(), value),
                Figure::Long(value) => sys::virTypedParamsAddULLong(list, count, room, name.as_ptr(), value),
            }
        };
        if done < 0 { Err(Error::last_error()) } else { Ok(()) }
    }
}

impl Drop for Params {
    fn drop(&mut self) {
        // SAFETY: made by virTypedParamsAdd*, or empty, which it takes too.
        unsafe { sys::virTypedParamsFree(self.list, self.count) };
    }
}

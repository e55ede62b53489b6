//! The daemon put together: what is opened in which order, what is told to end in which order.
//!
//! ```text
//! start   state directory -> store (locks it, checks it) -> drivers (connect to nothing yet) -> socket
//!         -> reconcilers -> HTTP -> READY=1 -> in the background: the network `default`, the probes of backends
//! SIGHUP  RELOADING=1 -> the configuration again -> READY=1; the certificates for other machines again
//! stop    STOPPING=1 -> HTTP: no new connections, watches end, answers under way get a second
//!         -> background -> reconcilers: no new pass, those under way end -> drivers: threads and connections
//!         -> store -> the socket's file
//! ```
//! Reconcilers end before drivers, since a pass calls them, and the store last, since a pass that ends writes what it
//! saw. Under systemd a watchdog is fed from the time that it serves, and the socket may be one that systemd made, which
//! then stays. No guest, dnsmasq or rule is touched by either: the next start adopts what it finds. A part that cannot be
//! opened ends the start with an error that names it; a backend that is away ends nothing.

mod backups;
mod consoles;
mod drivers;
mod facts;
mod figures;
mod imports;
mod lacking;
mod logging;
mod reload;
mod remote;
mod restore;
mod socket;
mod state_dir;
mod story;
mod subs;
#[cfg(test)]
mod tests;
mod upload;
mod watchdog;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentd_api::Cidr;
use agentd_drivers::{Drivers, Instance, fault};
use agentd_store::{Options, Store};
use anyhow::Context;
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::doctor::Sides;
use crate::http::{App, HttpServer, Limits, Lines, Metrics, PeerRules};
use crate::intent::{Intents, Wake};
use crate::reconcile::{self, Trigger};
use facts::Facts;

pub(crate) use drivers::guest_program;
pub use drivers::real as real_drivers;
pub use logging::start as start_logging;
pub use reload::Reload;
pub use restore::{Restored, restore};

/// How long the first start may wait for the host to say which networks it has, before it serves without `default`.
const DEFAULT_NETWORK_PATIENCE: Duration = Duration::from_secs(1);
/// Those who connected while it started are answered before all guests and consoles are looked at.
const HEAD_START: Duration = Duration::from_millis(200);
const DEFAULT_NETWORK_AGAIN: Duration = Duration::from_secs(10);
/// How long passes may take to end. Past it the process ends all the same: the next start finds what they left.
const PASSES_PATIENCE: Duration = Duration::from_secs(10);

/// A daemon that serves.
pub struct Daemon {
    intents: Intents,
    store: Store,
    drivers: Drivers,
    config: Config,
    reload: Reload,
    remote: Arc<remote::Remote>,
    socket: socket::Bound,
    http: Part,
    background: Part,
    passes: Part,
}

/// Tasks that end together.
#[derive(Default)]
struct Part {
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Part {
    /// Whether all of it ended within that time.
    async fn stop(&self, patience: Duration) -> bool {
        self.end.cancel();
        self.tasks.close();
        tokio::time::timeout(patience, self.tasks.wait()).await.is_ok()
    }
}

/// Starts, serves until SIGTERM or SIGINT, and stops in order.
pub async fn run(
    config: Config,
    reload: Reload,
    make: impl FnOnce(&Config, &Instance) -> anyhow::Result<Drivers>,
) -> anyhow::Result<()> {
    state_dir::plain_umask();
    Daemon::start(config, reload, make).await?.until_told().await
}

impl Daemon {
    pub async fn start(
        config: Config,
        reload: Reload,
        make: impl FnOnce(&Config, &Instance) -> anyhow::Result<Drivers>,
    ) -> anyhow::Result<Self> {
        let state_dir = state_dir::prepare(&config.daemon.state_dir)?;
        let database = state_dir.join("agentd.db");
        state_dir::refuse_orphans(&state_dir, &database)?;
        let store = state_dir::privately(|| Store::open(&database, Options::default()))?;
        backups::tidy(&state_dir);
        let started = Self::on_store((&store, &state_dir), config, reload, make).await;
        if started.is_err() {
            // Its lock goes with it, and so does the next start's reason to be refused.
            let _ = store.close().await;
        }
        started
    }

    async fn on_store(
        (store, state_dir): (&Store, &Path),
        config: Config,
        reload: Reload,
        make: impl FnOnce(&Config, &Instance) -> anyhow::Result<Drivers>,
    ) -> anyhow::Result<Self> {
        let from = Instant::now();
        let instance = Instance::new(state_dir);
        let drivers = make(&config, &instance).context("the drivers cannot be made")?;
        let (socket, listener) = socket::open(&config.daemon.socket, &config.daemon.group)?;
        let listener = UnixListener::from_std(listener).context("the socket cannot be served")?;
        let store = store.clone();

        let remote = remote::Remote::new(&config.remote);
        let facts =
            Facts::new(config.clone(), instance.clone(), drivers.clone(), store.clone(), remote.clone());
        let (http, background, passes) = (Part::default(), Part::default(), Part::default());
        reconcile::ensure_shipped_flavors(&store, state_dir).await?;
        default_network(&config, (&store, &drivers), &facts, &background).await;
        let held = reconcile::Held::default();
        let (trigger, contents) = reconcile::start(reconcile::Runtime {
            store: store.clone(),
            drivers: drivers.clone(),
            instance: instance.clone(),
            boot_id: facts.boot_id().to_owned(),
            bind_mounts: config.containers.bind_mounts.clone(),
            head_start: HEAD_START,
            held: held.clone(),
            cancel: passes.end.clone(),
            tracker: passes.tasks.clone(),
        });
        let watches = Arc::new(agentd_drivers::console::Watches::begin());
        background.tasks.spawn(
            consoles::Marking::new(store.clone(), watches.clone()).run(HEAD_START, background.end.clone()),
        );
        let intents = Intents::new(store.clone(), facts.clone(), Arc::new(trigger.clone()));
        let app = App {
            store: store.clone(),
            intents: intents.clone(),
            facts: facts.clone(),
            sides: Arc::new(Sides::new(&store, &drivers, &instance, &intents)),
            upload: Arc::new(upload::Uploads {
                store: store.clone(),
                images: drivers.image.clone(),
                trigger,
            }),
            subs: Arc::new(subs::Subs::new(&store, &drivers, &watches, (&intents, &held))),
            import: Arc::new(imports::Imports::new(intents.clone(), &drivers, contents, held)),
            backup: Arc::new(backups::Backups::new(store.clone(), state_dir)),
            figures: Arc::new(figures::AllFigures::new(store.clone(), &drivers, instance)),
            metrics: Arc::new(Metrics::default()),
            lines: Lines::default(),
            limits: Limits::default(),
        };
        serve(app, &config, (listener, &remote), &http);
        background.tasks.spawn(facts.keep_looking(background.end.clone()));
        if reload.in_journal() {
            background.tasks.spawn(story::tell(store.clone(), background.end.clone()));
        }
        let watched = watchdog::Watched { store: store.clone(), socket: config.daemon.socket.clone() };
        background.tasks.spawn(watchdog::feed(watched, background.end.clone()));

        tell_ready((&config, &socket), state_dir, from)?;
        Ok(Self { intents, store, drivers, config, reload, remote, socket, http, background, passes })
    }

    pub fn intents(&self) -> &Intents {
        &self.intents
    }

    /// Serves until SIGTERM or SIGINT, then stops. A second signal ends it at once. SIGHUP has the configuration read
    /// again.
    pub async fn until_told(mut self) -> anyhow::Result<()> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hangup = signal(SignalKind::hangup())?;
        let mut told = async || {
            // Cancel-safe: a signal that was received is not lost with the other arm.
            tokio::select! {
                _ = term.recv() => "SIGTERM",
                _ = int.recv() => "SIGINT",
            }
        };
        let why = loop {
            // Cancel-safe: as above.
            tokio::select! {
                why = told() => break why,
                _ = hangup.recv() => {
                    self.reload.again(&mut self.config, &self.drivers);
                    self.remote.look_again();
                }
            }
        };
        tracing::info!("stopping: {why}");
        // The process ends next, and all of its memory with it. Given back object by object it would take longer than
        // the rest of the stop.
        std::mem::forget((self.store.clone(), self.drivers.clone(), self.intents.clone()));
        // Cancel safety: the second arm ends the process, which is safe at any moment.
        tokio::select! {
            stopped = self.stop() => stopped,
            second = told() => anyhow::bail!("{second} while stopping: ended at once"),
        }
    }

    /// Ends everything in order; guests go on.
    pub async fn stop(self) -> anyhow::Result<()> {
        let from = Instant::now();
        // A manager that does not hear it waits for the process's end all the same.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        let Self { intents, store, drivers, socket, http, background, passes, .. } = self;
        // The server bounds its own end by its grace.
        http.stop(PASSES_PATIENCE).await;
        background.stop(PASSES_PATIENCE).await;
        if !passes.stop(PASSES_PATIENCE).await {
            let left = passes.tasks.len();
            tracing::warn!(
                left,
                "some passes have not ended; what they were at is taken up at the next start"
            );
        }
        tokio::join!(drivers.vm.close(), drivers.container.close(), drivers.network.close());
        drop(intents);
        store.close().await.context("the store was not closed cleanly; what was acknowledged is there")?;
        drop(socket);
        tracing::info!(took = ?from.elapsed(), "stopped");
        Ok(())
    }
}

/// Serves the Unix socket, and other machines where that is wanted, until the part is told to end.
fn serve(app: App, config: &Config, (listener, remote): (UnixListener, &Arc<remote::Remote>), http: &Part) {
    let peers = PeerRules::new(config.daemon.group.clone());
    let server = Arc::new(HttpServer::new(Arc::new(app), peers));
    http.tasks.spawn(server.clone().serve(listener, http.end.clone()));
    http.tasks.spawn(remote.clone().keep(server, http.end.clone()));
}

/// Says that it serves, to systemd where there is one and in the log.
fn tell_ready(
    (config, socket): (&Config, &socket::Bound),
    state_dir: &Path,
    from: Instant,
) -> anyhow::Result<()> {
    // Without systemd this does nothing.
    sd_notify::notify(&[NotifyState::Ready]).context("systemd cannot be told that agentd is ready")?;
    let (socket_path, took, passed) = (config.daemon.socket.display(), from.elapsed(), socket.is_passed());
    tracing::info!(socket = %socket_path, passed, state_dir = %state_dir.display(), ?took, "serving");
    Ok(())
}

/// Sees to the network `default` before the first request can ask for it, or in the background where that takes long.
async fn default_network(
    config: &Config,
    (store, drivers): (&Store, &Drivers),
    facts: &Arc<Facts>,
    background: &Part,
) {
    let (store, network, facts) = (store.clone(), drivers.network.clone(), facts.clone());
    let wanted: Option<Cidr> = config.network.cidr;
    let attempt = async move || match reconcile::ensure_default_network(&store, &network, wanted).await {
        Ok(_) => {
            facts.default_network_is(None);
            true
        }
        Err(error) => {
            let why = fault::chain(&error);
            if facts.default_network_is(Some(why.clone())) {
                tracing::warn!("there is no network 'default': {why}");
            }
            false
        }
    };
    // Cancel safety: an attempt that is given up here has written nothing or all, and is made again.
    if tokio::time::timeout(DEFAULT_NETWORK_PATIENCE, attempt()).await == Ok(true) {
        return;
    }
    let end = background.end.clone();
    background.tasks.spawn(async move {
        loop {
            // Cancel safety: as above.
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(DEFAULT_NETWORK_AGAIN) => {}
            }
            tokio::select! {
                () = end.cancelled() => return,
                made = attempt() => if made { return },
            }
        }
    });
}

impl Wake for Trigger {
    fn wake(&self, key: agentd_api::ObjectKey) {
        Trigger::wake(self, key);
    }
    fn wake_after(&self, key: agentd_api::ObjectKey, delay: Duration) {
        Trigger::wake_after(self, key, delay);
    }
}

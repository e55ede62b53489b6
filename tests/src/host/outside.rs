//! Somebody beyond the host: a network namespace with a link to it, who knows no way to guests.

use super::Host;
use super::namespace::run;

pub const ADDRESS: &str = "198.51.100.2";
/// The host's own on that link.
pub const HOST: &str = "198.51.100.1";

impl Host {
    /// The host's way out leads there from now on, and a server there gives `word` as its page.
    pub fn start_outside(&self, word: &str) {
        let folder = self.scratch().join("outside");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("index.html"), word).expect("written");
        let script = format!(
            "ip netns add outside && ip link add uplink type veth peer name eth0 netns outside && \
             ip addr add {HOST}/24 dev uplink && ip link set uplink up && ip -n outside link set lo up && \
             ip -n outside addr add {ADDRESS}/24 dev eth0 && ip -n outside link set eth0 up && \
             ip route add default via {ADDRESS} && \
             ip netns exec outside busybox httpd -p 80 -h {} </dev/null >/dev/null 2>&1",
            folder.display()
        );
        run("/bin/sh", &["-c", &script]).expect("somebody outside");
    }
}

//! The commands that make a topology's services, as one types them.

use super::{Role, Service, Topology, vip_label};

impl Topology {
    /// The commands that make the services, as one types them on the director.
    ///
    /// First the address, then every service, then server by server.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let address = self.virtual_addresses().map(|(address, interface)| {
            format!(
                "ip addr add {address} label {} dev {interface}",
                vip_label(interface)
            )
        });
        let services = self.services.iter().map(add_service);
        let mut commands: Vec<String> = address.chain(services).collect();
        let most = self
            .services
            .iter()
            .map(|service| service.servers.len())
            .max()
            .unwrap_or(0);
        for position in 0..most {
            for service in &self.services {
                let Some(server) = service.servers.get(position) else {
                    continue;
                };
                let weight = if server.weight == 1 {
                    String::new()
                } else {
                    format!(" -w {}", server.weight)
                };
                commands.push(format!(
                    "ipvsadm -a -t {}:{} -r {} {}{weight}",
                    service.address,
                    service.port,
                    server.address,
                    service.method.options()
                ));
            }
        }
        commands
    }

    /// What one types on a real server that is sent packets for the virtual address, before it is given any;
    /// the same on every server. Nothing when the director rewrites addresses.
    #[must_use]
    pub fn server_commands(&self) -> Vec<String> {
        let Some(server) = self.machines(Role::Server).next() else {
            return Vec::new();
        };
        let sysctls = server
            .sysctls
            .iter()
            .map(|(name, value)| format!("sysctl -w {name}={value}"));
        let addresses = server
            .lo
            .iter()
            .map(|address| format!("ip addr add {address}/32 dev lo"));
        // Neighbours must not hear of the address before the settings say that they shall not.
        let mut commands: Vec<String> = sysctls.chain(addresses).collect();
        if let Some(words) = self.decap(server) {
            commands.push(format!("furiwake {}", words.join(" ")));
        }
        commands
    }
}

fn add_service(service: &Service) -> String {
    let mut command = format!(
        "ipvsadm -A -t {}:{} -s {}",
        service.address, service.port, service.scheduler
    );
    if let Some(persistence) = service.persistence {
        command += &format!(" -p {}", persistence.seconds);
        if !persistence.netmask.is_broadcast() {
            command += &format!(" -M {}", persistence.netmask);
        }
    }
    if !service.flags.is_empty() {
        command += &format!(" -b {}", service.flags.join(","));
    }
    command
}

#[cfg(test)]
mod tests {
    use crate::topology::{Nat, Scheduler};

    #[test]
    fn the_commands_are_those_of_the_exercise() {
        let commands = Nat::equal(2).topology().unwrap().commands();
        assert_eq!(
            commands,
            [
                "ip addr add 192.168.56.50 label eth0-lvsvip dev eth0",
                "ipvsadm -A -t 192.168.56.50:80 -s rr",
                "ipvsadm -A -t 192.168.56.50:443 -s rr",
                "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.10 -m",
                "ipvsadm -a -t 192.168.56.50:443 -r 10.0.0.10 -m",
                "ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.20 -m",
                "ipvsadm -a -t 192.168.56.50:443 -r 10.0.0.20 -m",
            ]
        );
        assert!(
            Nat::equal(2)
                .topology()
                .unwrap()
                .server_commands()
                .is_empty()
        );
    }

    #[test]
    fn weights_appear_in_the_commands_only_when_they_are_not_one() {
        let nat = Nat {
            weights: vec![3, 1],
            scheduler: Scheduler::Wrr,
        };
        let commands = nat.topology().unwrap().commands();
        assert!(
            commands.contains(&"ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.10 -m -w 3".to_owned())
        );
        assert!(commands.contains(&"ipvsadm -a -t 192.168.56.50:80 -r 10.0.0.20 -m".to_owned()));
    }
}

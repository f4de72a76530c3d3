//! Planning: the changes that lead from one table to another.

use serde::{Deserialize, Serialize};

use crate::model::{Server, ServerKey, ServiceConfig, ServiceKey, Timeouts};

/// One change that the data plane can carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Make a service without servers.
    AddService(ServiceConfig),
    /// Change the configuration of a service; its servers and connections stay.
    EditService(ServiceConfig),
    /// Remove a service and its servers; its connections stay until they expire.
    RemoveService(ServiceKey),
    /// Put a server at the head of a service's list.
    AddServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: Server,
    },
    /// Change a server in place.
    EditServer {
        /// The service.
        service: ServiceKey,
        /// The server, found by its key.
        server: Server,
    },
    /// Take a server out of a service.
    RemoveServer {
        /// The service.
        service: ServiceKey,
        /// The server.
        server: ServerKey,
    },
    /// Change the timeouts.
    SetTimeouts(Timeouts),
}

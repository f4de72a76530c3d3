//! A running director for tests: its data plane in memory, its socket real, the kernel played by the test.

use std::{path::PathBuf, thread};

use furiwake_lvs::{model::Table, operation::Operation};

use super::{
    fake::FakePlane,
    netlink::{Event, Query},
    operate::Outcome,
    options::{Hook, Selection},
    *,
};
use crate::{
    api::schema::Status,
    client::{Client, Socket},
};

/// A running director and the test's ends of everything it talks to.
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) socket: PathBuf,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) queries: mpsc::UnboundedReceiver<Query>,
    pub(super) thread: thread::JoinHandle<anyhow::Result<()>>,
    pub(super) _folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn start(plane: FakePlane) -> Self {
        Self::start_with(plane, &[], &[])
    }

    pub(super) fn start_with(plane: FakePlane, interfaces: &[&str], hooks: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("control.sock");
        let (events, events_in) = mpsc::channel(QUEUE);
        let (queries_out, queries) = mpsc::unbounded_channel();
        let (requests, requests_in) = mpsc::channel(QUEUE);
        let interfaces: Vec<_> = interfaces.iter().map(|name| (*name).to_owned()).collect();
        let hooks: Vec<Hook> = hooks
            .iter()
            .map(|hook| hook.parse().expect("a hook"))
            .collect();
        let selection = Selection::new(&interfaces, &hooks);
        let channels = Channels {
            requests: requests_in,
            events: events_in,
            queries: queries_out,
        };
        let (bound, is_bound) = std::sync::mpsc::channel();
        let path = socket.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let (stop, stopped) = watch::channel(false);
                let listener = api::bind(&path)?;
                let _ = bound.send(());
                let api = tokio::spawn(api::serve(listener, Asker::new(requests), stopped));
                let manager = ServiceManager::default();
                Director::new(
                    plane,
                    selection,
                    channels,
                    manager,
                    1_700_000_000,
                    Kept::default(),
                )
                .run()
                .await?;
                let _ = stop.send(true);
                Ok(api.await??)
            })
        });
        is_bound.recv().expect("the socket is bound");
        let client = Client::new(Socket {
            path: socket.clone(),
        });
        Self {
            client,
            socket,
            events,
            queries,
            thread,
            _folder: folder,
        }
    }

    pub(super) fn operate(&self, operations: &[Operation]) -> Vec<Outcome> {
        self.client
            .post("/api/v1/operations", &operations)
            .expect("an answer")
    }

    pub(super) fn status(&self) -> Status {
        self.client.get("/api/v1/status").expect("a status")
    }

    pub(super) fn table(&self) -> Table {
        self.client.get("/api/v1/table").expect("a table")
    }

    pub(super) fn kernel_says(&self, event: Event) {
        self.events
            .blocking_send(event)
            .expect("the director listens");
    }

    pub(crate) fn stop(self) {
        self.client
            .post::<()>("/api/v1/stop", &())
            .expect("it stops");
        self.thread.join().expect("no panic").expect("no error");
    }
}

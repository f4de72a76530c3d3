//! The API: HTTP and JSON on the control socket, described by `/api/v1/openapi.json`.
//!
//! Handlers only carry messages to the director and its answers back. Who may open the socket may do
//! everything; it belongs to root and its group.

pub(crate) mod problem;
mod routes;
pub(crate) mod schema;
#[cfg(test)]
mod tests;

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Context as _;
use axum::{Json, Router, extract::DefaultBodyLimit, routing::get};
use tokio::{
    net::UnixListener,
    sync::{mpsc, oneshot, watch},
};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::problem::Problem,
    daemon::{
        director::{Reply, Request},
        lock,
    },
};

/// The largest body that is read; a hundred thousand servers fit.
const LARGEST_BODY: usize = 32 << 20;

/// The API's way to the director.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    requests: mpsc::Sender<Request>,
}

impl Asker {
    pub(crate) fn new(requests: mpsc::Sender<Request>) -> Self {
        Self { requests }
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Problem> {
        let stopping = || Problem::new(503, "the director is stopping");
        let (reply, answer) = oneshot::channel();
        self.requests
            .send(request(reply))
            .await
            .map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }
}

/// Bind the socket. A stale one is replaced; that nobody listens on it was made sure by the locks.
pub(crate) fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    let place = || format!("cannot listen on {}", socket.display());
    lock::refuse_other_file(socket)?;
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(place);
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).with_context(place)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660)).with_context(place)?;
    Ok(listener)
}

/// Serve until told to stop, then finish what was begun.
pub(crate) async fn serve(
    listener: UnixListener,
    asker: Asker,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let stopped = async move {
        // A sender that is gone means the same.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, router(asker))
        .with_graceful_shutdown(stopped)
        .await
}

fn router(asker: Asker) -> Router {
    let (router, document) = described().split_for_parts();
    router
        .route(
            "/api/v1/openapi.json",
            get(move || std::future::ready(Json(document.clone()))),
        )
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::wrong_method)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(asker)
}

/// Every route, with its description.
fn described() -> OpenApiRouter<Asker> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(routes::view))
        .routes(routes!(routes::table))
        .routes(routes!(routes::settings))
        .routes(routes!(routes::connections))
        .routes(routes!(routes::operations))
        .routes(routes!(routes::status))
        .routes(routes!(routes::stop))
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "furiwake",
        description = "Control of a director, on its Unix socket.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    servers((url = "http://localhost", description = "the host name is not looked at"))
)]
struct Description;

//! What each route does.

use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{Method, StatusCode, Uri},
};
use furiwake_lvs::{
    model::{SETTINGS, Table},
    operation::Operation,
    view::{ConnectionView, View},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Asker,
    problem::Problem,
    schema::{SettingStatus, Status},
};
use crate::daemon::{director::Request, operate::Outcome};

/// Services, servers, counters and rates: what the director does right now.
#[utoipa::path(get, path = "/api/v1/view", responses(
    (status = 200, body = View),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn view(State(asker): State<Asker>) -> Result<Json<View>, Problem> {
    Ok(Json(asker.ask(Request::View).await??))
}

/// What is wanted: services, servers and settings, without counts.
#[utoipa::path(get, path = "/api/v1/table", responses((status = 200, body = Table)))]
pub(super) async fn table(State(asker): State<Asker>) -> Result<Json<Table>, Problem> {
    Ok(Json(asker.ask(Request::Table).await?))
}

/// Every setting. Change one by the operation `set`.
#[utoipa::path(get, path = "/api/v1/settings", responses((status = 200, body = Vec<SettingStatus>)))]
pub(super) async fn settings(
    State(asker): State<Asker>,
) -> Result<Json<Vec<SettingStatus>>, Problem> {
    let settings = asker.ask(Request::Table).await?.settings;
    let all = SETTINGS
        .iter()
        .map(|setting| SettingStatus::of(setting, &settings));
    Ok(Json(all.collect()))
}

/// The connection table.
#[utoipa::path(get, path = "/api/v1/connections", responses(
    (status = 200, body = Vec<ConnectionView>),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn connections(
    State(asker): State<Asker>,
) -> Result<Json<Vec<ConnectionView>>, Problem> {
    Ok(Json(asker.ask(Request::Connections).await??))
}

/// How operations are carried out.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    /// All or nothing: the first refusal undoes what was done and is the answer, as a problem.
    #[serde(default)]
    atomic: bool,
}

/// Change something: operations in order, one outcome for each.
#[utoipa::path(post, path = "/api/v1/operations", params(How), request_body = Vec<Operation>, responses(
    (status = 200, body = Vec<Outcome>),
    (status = 400, body = Problem, content_type = "application/problem+json",
        description = "The body is not a list of operations"),
    (status = 409, body = Problem, content_type = "application/problem+json",
        description = "Atomic, and refused: `index` says which operation, `error` why"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn operations(
    State(asker): State<Asker>,
    how: Result<Query<How>, QueryRejection>,
    operations: Result<Json<Vec<Operation>>, JsonRejection>,
) -> Result<Json<Vec<Outcome>>, Problem> {
    let atomic = how
        .map_err(|error| Problem::new(400, error.body_text()))?
        .atomic;
    let Json(operations) = operations.map_err(|error| {
        let status = match error.status() {
            // What is wrong with a body is one error to us, not three.
            StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
            status => status,
        };
        Problem::new(status.as_u16(), error.body_text())
    })?;
    let answer = asker
        .ask(|reply| Request::Operate {
            operations,
            atomic,
            reply,
        })
        .await?;
    answer.map(Json).map_err(Problem::from)
}

/// How the director itself is: interfaces, next hops, reasons, use of tables.
#[utoipa::path(get, path = "/api/v1/status", responses(
    (status = 200, body = Status),
    (status = 500, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn status(State(asker): State<Asker>) -> Result<Json<Status>, Problem> {
    Ok(Json(asker.ask(Request::Status).await??))
}

/// Stop the daemon. Forwarding goes on.
#[utoipa::path(post, path = "/api/v1/stop", responses((status = 200, description = "It stops now")))]
pub(super) async fn stop(State(asker): State<Asker>) -> Result<Json<()>, Problem> {
    Ok(Json(asker.ask(Request::Stop).await?))
}

pub(super) async fn not_found(uri: Uri) -> Problem {
    Problem::new(
        404,
        format!("there is no {}: see /api/v1/openapi.json", uri.path()),
    )
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        405,
        format!(
            "{} does not take {method}: see /api/v1/openapi.json",
            uri.path()
        ),
    )
}

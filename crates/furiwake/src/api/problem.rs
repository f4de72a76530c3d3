//! Errors of the API as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use furiwake_lvs::operation::OperationError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::daemon::operate::Refusal;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Problem {
    /// The HTTP status again.
    pub(crate) status: u16,
    /// The status in words.
    pub(crate) title: String,
    /// What happened and what to do.
    pub(crate) detail: String,
    /// Which of several operations was refused, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<usize>,
    /// Why it was refused, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<OperationError>,
}

impl Problem {
    /// A problem of this status.
    pub(crate) fn new(status: u16, detail: impl Into<String>) -> Self {
        let title = StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason());
        Self {
            status,
            title: title.unwrap_or("Error").to_owned(),
            detail: detail.into(),
            index: None,
            error: None,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let Refusal { index, error } = refusal;
        let problem = Self::new(
            409,
            format!("operation {index} is refused: {error}; nothing was changed"),
        );
        Self {
            index: Some(index),
            error: Some(error),
            ..problem
        }
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::new(500, format!("{error:#}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (
            status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            Json(self),
        )
            .into_response()
    }
}

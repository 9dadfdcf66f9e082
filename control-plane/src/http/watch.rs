//! `GET /v1/relays/watch`: told of every change of the list, as server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::{StreamExt, wrappers::WatchStream};

use super::{Http, problem::Problem};

/// Who watches, at once.
pub(super) const WATCHERS: usize = 10_000;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_secs(30);

/// Told of every change of the relay list
///
/// Each event is named `relays`, has the generation as its id, and `{"generation": …}` as its data; the first one comes at once.
/// Whoever hears of a new one asks for the list, which may come from a cache.
#[utoipa::path(get, path = "/v1/relays/watch", tag = "relays", security(()),
    responses((status = 200, description = "Server-sent events", content_type = "text/event-stream")))]
pub(super) async fn watch(State(http): State<Http>) -> Result<Response, Problem> {
    let permit = permit(&http.watchers)?;
    let lists = WatchStream::new(http.plane.list_updates());
    let mut last = None;
    let changed = lists.filter_map(move |list| {
        let new = last.replace(list.generation) != Some(list.generation);
        // Held until whoever watches is gone.
        let _held = &permit;
        new.then(|| event(list.generation))
    });
    let mut response = Sse::new(changed)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn permit(watchers: &std::sync::Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    let permit = std::sync::Arc::clone(watchers).try_acquire_owned();
    permit.map_err(|_| Problem::too_many_watchers("ask for the list instead").again(AGAIN))
}

fn event(generation: u64) -> Result<Event, Infallible> {
    let data = format!("{{\"generation\":{generation}}}");
    Ok(Event::default()
        .event("relays")
        .id(generation.to_string())
        .data(data))
}

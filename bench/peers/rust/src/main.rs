//! Telemetry to a file with the crate `lambda-extension`: it registers, subscribes, serves the
//! platform's HTTP POSTs, decodes each batch into typed events, and polls for the next event. Here
//! the events of a batch are encoded again, one per line, and written before the POST is answered.
//!
//! Environment: AWS_LAMBDA_RUNTIME_API, PEER_OUTPUT (the file), PEER_PORT (default 4243).
use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use lambda_extension::{
    service_fn, Error, Extension, LambdaEvent, LambdaTelemetry, NextEvent, SharedService,
};
use serde_json::Value;
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::Notify;

type Batch = Vec<LambdaTelemetry<Value>>;

fn append(mut file: &File, batch: &Batch) -> Result<(), Error> {
    let mut lines = Vec::with_capacity(512 * batch.len());
    for event in batch {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    file.write_all(&lines)?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let port = env::var("PEER_PORT").map_or(Ok(4243), |text| text.parse())?;
    let path = env::var("PEER_OUTPUT")?;
    let file = Arc::new(OpenOptions::new().append(true).create(true).open(path)?);
    let ended = Arc::new(Notify::new());
    let telemetry = service_fn(move |batch: Batch| {
        let file = Arc::clone(&file);
        async move { append(&file, &batch) }
    });
    let ending = Arc::clone(&ended);
    let events = service_fn(move |event: LambdaEvent| {
        let ending = Arc::clone(&ending);
        async move {
            if let NextEvent::Shutdown(_) = event.next {
                ending.notify_one();
            }
            Ok::<(), Error>(())
        }
    });
    let extension = Extension::new()
        .with_events_processor(events)
        .with_telemetry_record_type::<Value>()
        .with_telemetry_processor(SharedService::new(telemetry))
        .with_telemetry_types(&["platform", "function"])
        .with_telemetry_port_number(port);
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        result = extension.run() => result,
        _ = ended.notified() => Ok(()),
        _ = terminated.recv() => Ok(()),
    }
}

// A telemetry extension that knows nothing of telemetryd: AWS's Rust library does all the talking
// (HTTP telemetry). It writes one line per thing it is told to the file FOREIGN_FILE.
use std::fs::OpenOptions;
use std::io::Write;

use lambda_extension::{
    service_fn, Error, Extension, LambdaEvent, LambdaTelemetry, LambdaTelemetryRecord, NextEvent,
    SharedService,
};

fn note(line: String) -> Result<(), Error> {
    let path = std::env::var("FOREIGN_FILE")?;
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(())
}

async fn on_event(event: LambdaEvent) -> Result<(), Error> {
    match event.next {
        NextEvent::Invoke(invoke) => note(format!("INVOKE {}", invoke.request_id)),
        NextEvent::Shutdown(shutdown) => note(format!("SHUTDOWN {}", shutdown.shutdown_reason)),
    }
}

async fn on_telemetry(events: Vec<LambdaTelemetry>) -> Result<(), Error> {
    for event in events {
        note(match event.record {
            LambdaTelemetryRecord::Function(line) => format!("function {}", line.trim_end()),
            LambdaTelemetryRecord::PlatformStart { request_id, .. } => {
                format!("platform.start {request_id}")
            }
            LambdaTelemetryRecord::PlatformRuntimeDone { request_id, status, .. } => {
                format!("platform.runtimeDone {request_id} {status:?}")
            }
            LambdaTelemetryRecord::PlatformReport { request_id, status, .. } => {
                format!("platform.report {request_id} {status:?}")
            }
            other => format!("{other:?}").chars().take(80).collect(),
        })?;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    Extension::new()
        .with_events_processor(service_fn(on_event))
        .with_telemetry_processor(SharedService::new(service_fn(on_telemetry)))
        .run()
        .await
}

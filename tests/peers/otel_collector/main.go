// Command otel-collector is an OpenTelemetry Collector of its published modules: the OTLP receiver,
// and an exporter that writes what arrived as the Collector's own JSON, a line for each batch.
//
// It is an oracle for telemetryd's OTLP: it takes its configuration as any Collector does, with
// `--config`. The exporter `jsonlines` has one key, `directory`; there it appends to logs.jsonl,
// metrics.jsonl and traces.jsonl.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func main() {
	settings := otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otel-collector", Description: "an oracle", Version: "1"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				ProviderFactories: []confmap.ProviderFactory{yamlprovider.NewFactory()},
				DefaultScheme:     "yaml",
			},
		},
	}
	if err := otelcol.NewCommand(settings).Execute(); err != nil {
		log.Fatal(err)
	}
}

func factories() (otelcol.Factories, error) {
	receivers, err := otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory())
	if err != nil {
		return otelcol.Factories{}, err
	}
	exporters, err := otelcol.MakeFactoryMap[exporter.Factory](exporter.NewFactory(
		component.MustNewType("jsonlines"),
		func() component.Config { return &config{} },
		exporter.WithLogs(newLogs, component.StabilityLevelStable),
		exporter.WithMetrics(newMetrics, component.StabilityLevelStable),
		exporter.WithTraces(newTraces, component.StabilityLevelStable),
	))
	if err != nil {
		return otelcol.Factories{}, err
	}
	return otelcol.Factories{
		Receivers: receivers,
		Exporters: exporters,
		Telemetry: otelconftelemetry.NewFactory(),
	}, nil
}

type config struct {
	Directory string `mapstructure:"directory"`
}

// sink appends lines to one file. What it has returned from is in the file.
type sink struct {
	component.StartFunc
	component.ShutdownFunc
	path string
	lock sync.Mutex
}

func newSink(given component.Config, name string) *sink {
	return &sink{path: filepath.Join(given.(*config).Directory, name)}
}

func (s *sink) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

func (s *sink) write(line []byte, err error) error {
	if err != nil {
		return err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	file, err := os.OpenFile(s.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := file.Write(append(line, '\n')); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

type logs struct{ *sink }

func (l logs) ConsumeLogs(_ context.Context, data plog.Logs) error {
	return l.write((&plog.JSONMarshaler{}).MarshalLogs(data))
}

func newLogs(_ context.Context, _ exporter.Settings, c component.Config) (exporter.Logs, error) {
	return logs{newSink(c, "logs.jsonl")}, nil
}

type metrics struct{ *sink }

func (m metrics) ConsumeMetrics(_ context.Context, data pmetric.Metrics) error {
	return m.write((&pmetric.JSONMarshaler{}).MarshalMetrics(data))
}

func newMetrics(_ context.Context, _ exporter.Settings, c component.Config) (exporter.Metrics, error) {
	return metrics{newSink(c, "metrics.jsonl")}, nil
}

type traces struct{ *sink }

func (t traces) ConsumeTraces(_ context.Context, data ptrace.Traces) error {
	return t.write((&ptrace.JSONMarshaler{}).MarshalTraces(data))
}

func newTraces(_ context.Context, _ exporter.Settings, c component.Config) (exporter.Traces, error) {
	return traces{newSink(c, "traces.jsonl")}, nil
}

// Command go-extension is a Lambda extension in the style of AWS's Go samples: net/http takes the
// platform's POSTs, a channel queues the events, a dispatcher writes them in batches.
//
// Events are kept as json.RawMessage, so a batch is checked and split but no event is decoded and
// encoded again: less work than the samples do.
//
// Environment: AWS_LAMBDA_RUNTIME_API, PEER_OUTPUT (the file), PEER_PORT (default 4243).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	queuedPosts  = 64
	batchEvents  = 1000
	identifier   = "Lambda-Extension-Identifier"
	eventAPI     = "/2020-01-01/extension"
	subscription = "/2022-07-01/telemetry"
	schema       = "2022-12-13"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	file, err := os.OpenFile(os.Getenv("PEER_OUTPUT"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	port := os.Getenv("PEER_PORT")
	if port == "" {
		port = "4243"
	}
	listener, err := net.Listen("tcp", "0.0.0.0:"+port)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	queue := make(chan []json.RawMessage, queuedPosts)
	written := make(chan error, 1)
	go func() { written <- dispatch(queue, file) }()
	server := &http.Server{Handler: receiver(queue), ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(listener)

	lifecycle := newClient(os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err := lifecycle.start(ctx, port); err != nil {
		return err
	}
	if err := lifecycle.untilShutdown(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	ending, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return err
	}
	close(queue)
	return <-written
}

// receiver queues the events of each POST; a full queue makes the platform wait.
func receiver(queue chan<- []json.RawMessage) http.Handler {
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		body := bytes.NewBuffer(make([]byte, 0, max(request.ContentLength, 0)+bytes.MinRead))
		if _, err := body.ReadFrom(request.Body); err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		var events []json.RawMessage
		if err := json.Unmarshal(body.Bytes(), &events); err != nil {
			log.Printf("not a JSON array: %v", err)
			return
		}
		queue <- events
	})
}

// dispatch writes the events, one per line, at least every batchEvents of them and whenever no
// POST is waiting.
func dispatch(queue <-chan []json.RawMessage, file io.Writer) error {
	var lines bytes.Buffer
	pending := 0
	for events := range queue {
		for _, event := range events {
			lines.Write(event)
			lines.WriteByte('\n')
		}
		pending += len(events)
		if pending < batchEvents && len(queue) > 0 {
			continue
		}
		if _, err := lines.WriteTo(file); err != nil {
			return err
		}
		pending = 0
	}
	_, err := lines.WriteTo(file)
	return err
}

// client talks to the Extensions and Telemetry APIs.
type client struct {
	base string
	id   string
}

func newClient(address string) *client { return &client{base: "http://" + address} }

func (c *client) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	content := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	if c.id == "" {
		request.Header.Set("Lambda-Extension-Name", filepath.Base(os.Args[0]))
	} else {
		request.Header.Set(identifier, c.id)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, answer)
	}
	if given := response.Header.Get(identifier); given != "" {
		c.id = given
	}
	return answer, nil
}

func (c *client) start(ctx context.Context, port string) error {
	events := map[string]any{"events": []string{"INVOKE", "SHUTDOWN"}}
	if _, err := c.call(ctx, http.MethodPost, eventAPI+"/register", events); err != nil {
		return err
	}
	if c.id == "" {
		return errors.New("register: no " + identifier)
	}
	_, err := c.call(ctx, http.MethodPut, subscription, map[string]any{
		"schemaVersion": schema,
		"types":         []string{"platform", "function"},
		"buffering":     map[string]int{"maxItems": 10000, "maxBytes": 262144, "timeoutMs": 1000},
		"destination":   map[string]string{"protocol": "HTTP", "URI": "http://sandbox.localdomain:" + port},
	})
	return err
}

func (c *client) untilShutdown(ctx context.Context) error {
	for {
		answer, err := c.call(ctx, http.MethodGet, eventAPI+"/event/next", nil)
		if err != nil {
			return err
		}
		var event struct {
			EventType string `json:"eventType"`
		}
		if err := json.Unmarshal(answer, &event); err != nil {
			return err
		}
		if event.EventType == "SHUTDOWN" {
			return nil
		}
	}
}

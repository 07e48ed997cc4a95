// Command node-app is what runs in the pods of a real node, beside the operator, and the node's DNS.
//
//	node-app pause                       holds a pod's sandbox
//	node-app serve                       an application that uses Secrets in every way, and shows
//	                                     what it has
//	node-app names LISTEN NAME=IPV4...   answers DNS queries over UDP
//	sleep infinity                       under this name it waits
//
// What serve does is told by its environment:
//
//	START_AFTER    how long it takes until it is ready, such as 2s
//	DATABASE       host:port/name of a PostgreSQL, to which it makes a new connection every
//	               100 ms as $USERNAME with $PASSWORD, as they were when it started
//	CERTIFICATE    folder with tls.crt and tls.key, as they were when it started; it serves TLS
//	               on :8443
//
// On :8080 it answers /readyz, /env/NAME, /file/PATH and /secret/NAME (read by the API, with the
// token of its pod).
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	ended, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	switch arguments := os.Args[1:]; {
	case filepath.Base(os.Args[0]) == "sleep":
		// What the examples run.
		<-ended.Done()
	case len(arguments) == 1 && arguments[0] == "pause":
		<-ended.Done()
	case len(arguments) == 1 && arguments[0] == "serve":
		serve(ended)
	case len(arguments) > 1 && arguments[0] == "names":
		names(arguments[1], arguments[2:])
	default:
		log.Fatal("usage: node-app pause | serve | names LISTEN NAME=IPV4...")
	}
}

func serve(ended context.Context) {
	ready := time.Now()
	if after := os.Getenv("START_AFTER"); after != "" {
		delay, err := time.ParseDuration(after)
		if err != nil {
			log.Fatalf("START_AFTER: %v", err)
		}
		ready = ready.Add(delay)
	}
	http.HandleFunc("GET /readyz", func(answer http.ResponseWriter, _ *http.Request) {
		if time.Now().Before(ready) {
			http.Error(answer, "not yet", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("GET /env/{name}", func(answer http.ResponseWriter, request *http.Request) {
		fmt.Fprint(answer, os.Getenv(request.PathValue("name")))
	})
	http.HandleFunc("GET /file/{path...}", func(answer http.ResponseWriter, request *http.Request) {
		content, err := os.ReadFile("/" + request.PathValue("path"))
		show(answer, content, err)
	})
	http.HandleFunc("GET /secret/{name}", func(answer http.ResponseWriter, request *http.Request) {
		content, err := secret(request.Context(), request.PathValue("name"))
		show(answer, content, err)
	})
	go func() { log.Fatal(http.ListenAndServe(":8080", nil)) }()
	if folder := os.Getenv("CERTIFICATE"); folder != "" {
		go serveTLS(folder)
	}
	if database := os.Getenv("DATABASE"); database != "" {
		// Until it is killed: a pod that is told to end still serves who came before.
		go connect(database)
	}
	<-ended.Done()
	if os.Getenv("DATABASE") != "" {
		time.Sleep(time.Second)
	}
}

func show(answer http.ResponseWriter, content []byte, err error) {
	if err != nil {
		http.Error(answer, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = answer.Write(content)
}

// secret reads a Secret as the API server has it now.
func secret(ctx context.Context, name string) ([]byte, error) {
	files := make(map[string][]byte)
	for _, file := range []string{"token", "ca.crt", "namespace"} {
		content, err := os.ReadFile(account + file)
		if err != nil {
			return nil, err
		}
		files[file] = content
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(files["ca.crt"])
	client := http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true},
	}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	address := url.URL{Scheme: "https", Host: host,
		Path: fmt.Sprintf("/api/v1/namespaces/%s/secrets/%s", files["namespace"], name)}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(files["token"]))
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the API server answered %s", answer.Status)
	}
	return io.ReadAll(answer.Body)
}

func serveTLS(folder string) {
	hello := http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprint(answer, "hello") })
	certificate, key := filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	log.Fatal(http.ListenAndServeTLS(":8443", certificate, key, hello))
}

// connect opens a connection every 100 ms, as an application without a pool does. The server's log
// tells what became of each.
func connect(database string) {
	address, err := url.Parse("postgres://" + database)
	if err != nil {
		log.Fatalf("DATABASE: %v", err)
	}
	address.User = url.UserPassword(os.Getenv("USERNAME"), os.Getenv("PASSWORD"))
	for range time.Tick(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		connection, err := pgx.Connect(ctx, address.String())
		if err != nil {
			log.Printf("no connection: %v", err)
		} else {
			_ = connection.Close(ctx)
		}
		cancel()
	}
}

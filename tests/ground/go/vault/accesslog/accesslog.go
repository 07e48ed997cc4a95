// Package accesslog writes one JSON line for each request that a handler answers, also for those
// that Vault's audit devices leave out (sys/health, sys/seal-status, sys/leader) or cannot see
// (all while Vault is sealed). Lines hold no header but the user agent, no query and no body:
// neither tokens nor values can be in them.
package accesslog

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// entry is one line.
type entry struct {
	// Time is when the request arrived.
	Time      time.Time `json:"time"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Status    int       `json:"status"`
	Remote    string    `json:"remote_addr"`
	UserAgent string    `json:"user_agent"`
}

type accessLog struct {
	next  http.Handler
	mutex sync.Mutex
	lines io.Writer
	// complaints gets a sentence when a line cannot be written, once.
	complaints io.Writer
	complained bool
}

// New wraps next. Each line is written whole, before its answer leaves: a client that has the
// answer finds the line. A failure to write goes to complaints and doesn't touch the answer.
func New(next http.Handler, lines, complaints io.Writer) http.Handler {
	return &accessLog{next: next, lines: lines, complaints: complaints}
}

func (l *accessLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := &answer{ResponseWriter: w, log: l, entry: entry{
		Time:      time.Now().UTC(),
		Method:    r.Method,
		Path:      r.URL.Path,
		Remote:    r.RemoteAddr,
		UserAgent: r.UserAgent(),
	}}
	l.next.ServeHTTP(answer, r)
	// A handler that wrote nothing has answered 200.
	answer.begin(http.StatusOK)
}

func (l *accessLog) write(e entry) {
	line, err := json.Marshal(e)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if err == nil {
		_, err = l.lines.Write(append(line, '\n'))
	}
	if err != nil && !l.complained {
		l.complained = true
		fmt.Fprintf(l.complaints, "the access log misses requests from here on: %v; make room on its disk and start anew\n", err)
	}
}

// answer watches for the moment when the status of an answer is final.
type answer struct {
	http.ResponseWriter
	log   *accessLog
	entry entry
	begun bool
}

func (a *answer) begin(status int) {
	// 1xx come before the answer, except for 101, which is one.
	if a.begun || (status < 200 && status != http.StatusSwitchingProtocols) {
		return
	}
	a.begun = true
	a.entry.Status = status
	a.log.write(a.entry)
}

func (a *answer) WriteHeader(status int) {
	a.begin(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(body []byte) (int, error) {
	a.begin(http.StatusOK)
	return a.ResponseWriter.Write(body)
}

// Flush serves handlers that stream (sys/monitor) and ask for an http.Flusher.
func (a *answer) Flush() {
	a.begin(http.StatusOK)
	// A writer that cannot flush sends when it likes: nothing is lost.
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController reach what this wrapper does not offer itself.
func (a *answer) Unwrap() http.ResponseWriter {
	return a.ResponseWriter
}

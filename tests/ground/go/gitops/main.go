// Command gitops says what GitOps tools make of an object: the health that Argo CD finds by a script
// of its ConfigMap, and the status that Flux finds by kstatus.
//
//	gitops --argocd-cm=FILE < OBJECT
//
// The object is one JSON or YAML document. What is printed is one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// How long Argo CD lets a script run.
const limit = time.Second

// The words that Argo CD takes from a script.
var healths = map[string]bool{
	"Healthy": true, "Progressing": true, "Degraded": true, "Suspended": true, "Missing": true, "Unknown": true,
}

type finding struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	config := flag.String("argocd-cm", "", "file with the ConfigMap argocd-cm")
	flag.Parse()
	if *config == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "gitops: give --argocd-cm=FILE, and the object on standard input")
		os.Exit(2)
	}
	if err := judge(*config); err != nil {
		fmt.Fprintln(os.Stderr, "gitops:", err)
		os.Exit(1)
	}
}

func judge(config string) error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	object, err := parse(text)
	if err != nil {
		return fmt.Errorf("the object: %w", err)
	}
	if text, err = os.ReadFile(config); err != nil {
		return err
	}
	settings, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	var verdict struct {
		ArgoCD  *finding `json:"argocd"`
		Kstatus finding  `json:"kstatus"`
	}
	kind := object.GroupVersionKind()
	key := fmt.Sprintf("resource.customizations.health.%s_%s", kind.Group, kind.Kind)
	script, found, err := unstructured.NestedString(settings.Object, "data", key)
	if err != nil {
		return err
	}
	if found {
		if verdict.ArgoCD, err = health(object, script); err != nil {
			return fmt.Errorf("the script of %s: %w", key, err)
		}
	}
	result, err := status.Compute(object)
	if err != nil {
		return fmt.Errorf("kstatus: %w", err)
	}
	verdict.Kstatus = finding{result.Status.String(), result.Message}
	return json.NewEncoder(os.Stdout).Encode(verdict)
}

// As from the API server: whole numbers are whole.
func parse(text []byte) (*unstructured.Unstructured, error) {
	text, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	object := &unstructured.Unstructured{}
	return object, object.UnmarshalJSON(text)
}

// Argo CD opens these libraries and no others to a script of its ConfigMap, but for two functions of
// `os` that tell the time.
func health(object *unstructured.Unstructured, script string) (*finding, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		state.Push(state.NewFunction(open))
		state.Push(lua.LString(name))
		state.Call(1, 0)
	}
	running, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	state.SetContext(running)
	state.SetGlobal("obj", value(state, object.Object))
	if err := state.DoString(script); err != nil {
		return nil, err
	}
	table, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return nil, errors.New("it returns no table")
	}
	said, message := table.RawGetString("status"), table.RawGetString("message")
	if !healths[lua.LVAsString(said)] {
		return nil, fmt.Errorf("%q is no health", said.String())
	}
	if message != lua.LNil && message.Type() != lua.LTString {
		return nil, fmt.Errorf("the message is a %s", message.Type())
	}
	return &finding{lua.LVAsString(said), lua.LVAsString(message)}, nil
}

func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case bool:
		return lua.LBool(from)
	case int64:
		return lua.LNumber(from)
	case float64:
		return lua.LNumber(from)
	case string:
		return lua.LString(from)
	case []any:
		table := state.NewTable()
		for _, item := range from {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for name, item := range from {
			table.RawSetString(name, value(state, item))
		}
		return table
	}
	return lua.LNil
}

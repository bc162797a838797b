package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

type event map[string]any

// A node under load can lose a hundred thousand messages in a moment. The total is in `stats`.
const deadLettersPrinted = 1000

var (
	stdout      sync.Mutex
	deadLetters atomic.Int64
)

func emit(e event) {
	line, err := json.Marshal(e)
	if err != nil {
		line, _ = json.Marshal(event{"event": "unprintable", "error": err.Error()})
	}
	stdout.Lock()
	defer stdout.Unlock()
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		os.Exit(1)
	}
}

func subscribe(system *actor.ActorSystem) {
	system.EventStream.Subscribe(func(evt any) {
		switch msg := evt.(type) {
		case *remote.EndpointConnectedEvent:
			emit(event{"event": "connected", "address": msg.Address})
		case *remote.EndpointTerminatedEvent:
			emit(event{"event": "disconnected", "address": msg.Address})
		case *actor.DeadLetterEvent:
			if deadLetters.Add(1) > deadLettersPrinted {
				return
			}
			e := event{"event": "dead_letter", "target": pidText(msg.PID)}
			describe(e, msg.Message)
			if msg.Sender != nil {
				e["sender"] = pidText(msg.Sender)
			}
			emit(e)
		}
	})
}

// describe adds the type of a message and its value as protobuf writes it in JSON.
func describe(e event, message any) {
	// What is left of a JSON payload (serializer 1) whose type protoactor's JSON does not know.
	if typeName, text, ok := jsonParts(message); ok {
		e["type"], e["json"] = typeName, text
		return
	}
	msg, ok := message.(proto.Message)
	if !ok {
		e["type"] = fmt.Sprintf("%T", message)
		return
	}
	e["type"] = string(proto.MessageName(msg))
	if value, err := protojson.Marshal(msg); err == nil {
		e["value"] = json.RawMessage(value)
	}
}

// parseMessage is the inverse of describe.
func parseMessage(typeName string, value json.RawMessage) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(typeName))
	if err != nil {
		return nil, err
	}
	message := kind.New().Interface()
	if len(value) == 0 {
		return message, nil
	}
	return message, protojson.Unmarshal(value, message)
}

// A PID is written `host:port/id`; the id may hold further slashes.
func pidText(pid *actor.PID) string {
	if pid == nil {
		return ""
	}
	return pid.Address + "/" + pid.Id
}

// parsePID takes a text without an address for an actor of this node.
func parsePID(system *actor.ActorSystem, text string) *actor.PID {
	address, id, found := strings.Cut(text, "/")
	if !found || !strings.Contains(address, ":") {
		return system.NewLocalPID(text)
	}
	return actor.NewPID(address, id)
}

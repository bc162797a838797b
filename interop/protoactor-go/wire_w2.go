//go:build w2

package main

import (
	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
)

// wire is the generation that this program was built with.
const wire = "W2"

type future = actor.Future

func jsonParts(message any) (typeName, text string, ok bool) {
	if msg, ok := message.(*remote.JSONMessage); ok {
		return msg.TypeName, msg.JSON, true
	}
	return "", "", false
}

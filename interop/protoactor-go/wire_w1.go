//go:build !w2

package main

import (
	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
)

// wire is the generation that this program was built with.
const wire = "W1"

type future = *actor.Future

func jsonParts(message any) (typeName, text string, ok bool) {
	if msg, ok := message.(*remote.JsonMessage); ok {
		return msg.TypeName, msg.Json, true
	}
	return "", "", false
}

package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The behaviours by name: as actors spawned at the start, as kinds that a peer may spawn, and for the command `spawn`.
var behaviours = map[string]actor.Producer{
	"echo":     func() actor.Actor { return &echo{} },
	"recorder": func() actor.Actor { return &recorder{} },
	"sink":     func() actor.Actor { return &sink{} },
}

// propsOf gives the behaviour with a mailbox that prints what no actor sees of its own: who begins and ends to watch it.
func propsOf(behaviour string) (*actor.Props, error) {
	producer, ok := behaviours[behaviour]
	if !ok {
		return nil, fmt.Errorf("no behaviour %q", behaviour)
	}
	if behaviour == "sink" {
		// Nothing beside the counting: sinks are measured.
		return actor.PropsFromProducer(producer), nil
	}
	spawn := func(system *actor.ActorSystem, id string, _ *actor.Props, parent actor.SpawnerContext) (*actor.PID, error) {
		props := actor.PropsFromProducer(producer, actor.WithMailbox(actor.Unbounded(watchers{id})))
		return actor.DefaultSpawner(system, id, props, parent)
	}
	return actor.PropsFromProducer(producer, actor.WithSpawnFunc(spawn)), nil
}

// watchers hears of each message after the actor `id` has handled it.
type watchers struct{ id string }

func (watchers) MailboxStarted()   {}
func (watchers) MailboxEmpty()     {}
func (watchers) MessagePosted(any) {}

func (w watchers) MessageReceived(message any) {
	switch msg := message.(type) {
	case *actor.Watch:
		emit(event{"event": "watched", "actor": w.id, "watcher": pidText(msg.Watcher)})
	case *actor.Unwatch:
		emit(event{"event": "unwatched", "actor": w.id, "watcher": pidText(msg.Watcher)})
	}
}

// ready is answered by an actor that has started.
type ready struct{}

// lifecycle prints how an actor begins and ends, and says whether the message was of that sort.
func lifecycle(ctx actor.Context) bool {
	switch ctx.Message().(type) {
	case *actor.Started:
		emit(event{"event": "started", "actor": ctx.Self().Id})
	case *actor.Stopped:
		emit(event{"event": "stopped", "actor": ctx.Self().Id})
	case ready:
		ctx.Respond(ready{})
	case *actor.Stopping, *actor.Restarting:
	default:
		return false
	}
	return true
}

// echo answers each message with itself and prints none.
type echo struct{}

func (*echo) Receive(ctx actor.Context) {
	if lifecycle(ctx) || ctx.Sender() == nil {
		return
	}
	switch ctx.Message().(type) {
	case *actor.Touch, *actor.PoisonPill:
		// The runtime answers these.
	case proto.Message:
		ctx.Respond(ctx.Message())
	}
}

type (
	watch   struct{ pid *actor.PID }
	unwatch struct{ pid *actor.PID }
)

// recorder prints all that comes, and watches for the commands `watch` and `unwatch`.
type recorder struct{}

func (*recorder) Receive(ctx actor.Context) {
	if lifecycle(ctx) {
		return
	}
	switch msg := ctx.Message().(type) {
	case watch:
		ctx.Watch(msg.pid)
	case unwatch:
		ctx.Unwatch(msg.pid)
	case *actor.Terminated:
		emit(event{"event": "terminated", "watcher": ctx.Self().Id, "who": pidText(msg.Who), "why": msg.Why.String()})
	default:
		e := event{"event": "received", "actor": ctx.Self().Id}
		describe(e, msg)
		if sender := ctx.Sender(); sender != nil {
			e["sender"] = pidText(sender)
			if sender.RequestId != 0 {
				e["sender_request_id"] = sender.RequestId
			}
		}
		if header := ctx.MessageHeader(); header != nil && header.Length() > 0 {
			e["headers"] = header.ToMap()
		}
		emit(e)
	}
}

// tally is what a sink has seen of a sequence of numbers.
type tally struct {
	Count     int64 `json:"count"`
	First     int64 `json:"first"`
	Last      int64 `json:"last"`
	Missing   int64 `json:"missing"`
	Reordered int64 `json:"reordered"`
}

// sink checks that numbers (google.protobuf.Int64Value) arrive one after the other. A google.protobuf.StringValue with
// a sender is answered with the count, which tells that all that was sent before it has been handled.
type sink struct {
	mu    sync.Mutex
	tally tally
	grown chan struct{}
}

var sinks sync.Map // id -> *sink

func (s *sink) Receive(ctx actor.Context) {
	switch msg := ctx.Message().(type) {
	case *actor.Started:
		sinks.Store(ctx.Self().Id, s)
		lifecycle(ctx)
	case *wrapperspb.Int64Value:
		s.take(msg.Value)
	case *wrapperspb.BytesValue:
		s.mu.Lock()
		s.tally.Count++
		s.wake()
		s.mu.Unlock()
	case *wrapperspb.StringValue:
		if ctx.Sender() != nil {
			ctx.Respond(wrapperspb.Int64(s.seen().Count))
		}
	default:
		lifecycle(ctx)
	}
}

func (s *sink) take(number int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.tally
	switch {
	case t.Count == 0:
		t.First = number
	case number <= t.Last:
		t.Reordered++
	default:
		t.Missing += number - t.Last - 1
	}
	t.Count++
	t.Last = number
	s.wake()
}

func (s *sink) wake() {
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
}

func (s *sink) seen() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tally
}

func (s *sink) reset() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.tally
	s.tally = tally{}
	return before
}

// await returns when `count` messages have come, or with false when they did not in time.
func (s *sink) await(count int64, timeout time.Duration) (tally, bool) {
	deadline := time.After(timeout)
	for {
		s.mu.Lock()
		if s.tally.Count >= count {
			defer s.mu.Unlock()
			return s.tally, true
		}
		if s.grown == nil {
			s.grown = make(chan struct{})
		}
		grown := s.grown
		s.mu.Unlock()
		select {
		case <-grown:
		case <-deadline:
			return s.seen(), false
		}
	}
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// command is one line of stdin. It is answered by one event `done` or `failed` that repeats its id.
type command struct {
	ID        uint64            `json:"id"`
	Do        string            `json:"do"`
	To        string            `json:"to"`
	From      string            `json:"from"`
	Type      string            `json:"type"`
	Value     json.RawMessage   `json:"value"`
	Headers   map[string]string `json:"headers"`
	RequestID uint32            `json:"request_id"`
	Name      string            `json:"name"`
	Kind      string            `json:"kind"`
	Systems   []string          `json:"systems"`
	Start     int64             `json:"start"`
	Count     int64             `json:"count"`
	EveryUs   int64             `json:"every_us"`
	TimeoutMs int64             `json:"timeout_ms"`
	Graceful  bool              `json:"graceful"`
}

func (c *command) timeout() time.Duration {
	if c.TimeoutMs == 0 {
		return 10 * time.Second
	}
	return time.Duration(c.TimeoutMs) * time.Millisecond
}

func (c *command) finish(answer event, err error) {
	if answer == nil {
		answer = event{}
	}
	answer["id"], answer["event"] = c.ID, "done"
	if err != nil {
		answer["event"], answer["error"] = "failed", err.Error()
	}
	emit(answer)
}

// carryOut runs what may wait beside the others; the rest takes effect in the order of the lines.
func (n *node) carryOut(c *command) {
	root := n.system.Root
	pid := parsePID(n.system, c.To)
	switch c.Do {
	case "tell":
		c.finish(nil, n.send(c, pid, n.sender(c)))
	case "ask":
		n.ask(c, pid)
	case "spawn":
		c.finish(nil, n.spawn(c.Name, c.Kind))
	case "spawn_remote":
		go c.finish(n.spawnRemote(c))
	case "watch":
		root.Send(parsePID(n.system, c.From), watch{pid})
		c.finish(nil, nil)
	case "unwatch":
		root.Send(parsePID(n.system, c.From), unwatch{pid})
		c.finish(nil, nil)
	case "poison":
		root.Poison(pid)
		c.finish(nil, nil)
	case "stop":
		root.Stop(pid)
		c.finish(nil, nil)
	case "poison_future":
		future := root.PoisonFuture(pid)
		go func() { c.finish(nil, future.Wait()) }()
	case "stop_future":
		future := root.StopFuture(pid)
		go func() { c.finish(nil, future.Wait()) }()
	case "burst":
		go n.burst(c, pid)
	case "stop_bursts":
		n.bursts.end()
		c.finish(nil, nil)
	case "sink":
		go c.finish(awaitSink(c))
	case "reset_sink":
		s, err := findSink(c)
		if err != nil {
			c.finish(nil, err)
			return
		}
		c.finish(event{"tally": s.reset()}, nil)
	case "block":
		n.remote.BlockList().Block(c.Systems...)
		c.finish(nil, nil)
	case "stats":
		c.finish(event{"dead_letters": deadLetters.Load(), "peak_rss_bytes": peakMemory()}, nil)
	case "shutdown":
		go func() {
			began := time.Now()
			n.remote.Shutdown(c.Graceful)
			c.finish(event{"took_us": time.Since(began).Microseconds()}, nil)
		}()
	case "exit":
		c.finish(nil, nil)
		os.Exit(0)
	default:
		c.finish(nil, fmt.Errorf("no command %q", c.Do))
	}
}

// sender is the actor that `from` names, with the request id to be echoed, if any.
func (n *node) sender(c *command) *actor.PID {
	if c.From == "" {
		return nil
	}
	pid := parsePID(n.system, c.From)
	pid.RequestId = c.RequestID
	return pid
}

func (n *node) send(c *command, to, sender *actor.PID) error {
	message, err := parseMessage(c.Type, c.Value)
	if err != nil {
		return err
	}
	n.system.Root.Send(to, &actor.MessageEnvelope{Header: c.Headers, Message: message, Sender: sender})
	return nil
}

func (n *node) ask(c *command, to *actor.PID) {
	future := actor.NewFuture(n.system, c.timeout())
	began := time.Now()
	if err := n.send(c, to, future.PID()); err != nil {
		c.finish(nil, err)
		return
	}
	go func() {
		answer := event{}
		reply, err := future.Result()
		answer["took_us"] = time.Since(began).Microseconds()
		if err == nil {
			describe(answer, reply)
		}
		c.finish(answer, err)
	}()
}

func (n *node) spawnRemote(c *command) (event, error) {
	reply, err := n.remote.SpawnNamed(c.To, c.Name, c.Kind, c.timeout())
	if err != nil {
		return nil, err
	}
	answer := event{"status": reply.StatusCode}
	if reply.Pid != nil {
		answer["pid"] = pidText(reply.Pid)
	}
	return answer, nil
}

// bursts ends all sending that is under way by closing a channel.
type bursts struct {
	mu   sync.Mutex
	stop chan struct{}
}

func (b *bursts) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.stop)
	b.stop = make(chan struct{})
}

func (b *bursts) ended() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stop
}

// burst sends numbers one after the other, as fast as the queue takes them or one each `every_us`. Without a count it
// goes on until `stop_bursts`.
func (n *node) burst(c *command, to *actor.PID) {
	var pace <-chan time.Time
	if c.EveryUs > 0 {
		ticker := time.NewTicker(time.Duration(c.EveryUs) * time.Microsecond)
		defer ticker.Stop()
		pace = ticker.C
	}
	stop := n.bursts.ended()
	number := c.Start
sending:
	for c.Count == 0 || number < c.Start+c.Count {
		select {
		case <-stop:
			break sending
		default:
		}
		n.system.Root.Send(to, wrapperspb.Int64(number))
		number++
		if pace != nil {
			select {
			case <-pace:
			case <-stop:
			}
		}
	}
	c.finish(event{"sent": number - c.Start, "next": number}, nil)
}

func findSink(c *command) (*sink, error) {
	name := c.Name
	if name == "" {
		name = "sink"
	}
	if s, ok := sinks.Load(name); ok {
		return s.(*sink), nil
	}
	return nil, fmt.Errorf("no sink %q", name)
}

func awaitSink(c *command) (event, error) {
	s, err := findSink(c)
	if err != nil {
		return nil, err
	}
	seen, ok := s.await(c.Count, c.timeout())
	if !ok {
		err = errors.New("fewer messages came in time")
	}
	return event{"tally": seen}, err
}

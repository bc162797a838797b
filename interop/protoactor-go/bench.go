package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// runBench asks: how fast, how quick and how large are two protoactor-go nodes with protoactor's own defaults? The other
// node is a process of its own; its peak memory counts apart from ours.
func runBench(args []string) {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	messages := flags.Int("messages", 1_000_000, "one-way messages")
	asks := flags.Int("asks", 20_000, "questions, one after the other")
	payload := flags.Int("payload", 16, "bytes of the google.protobuf.BytesValue that is sent")
	window := flags.Int("window", 0, "one-way messages under way before the sender waits, 0 for no bound, as protoactor does")
	_ = flags.Parse(args)

	result, err := bench(*messages, *asks, *payload, *window)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	emit(result)
}

func bench(messages, asks, payload, window int) (event, error) {
	peer, err := startPeer()
	if err != nil {
		return nil, err
	}
	defer peer.process.Process.Kill()
	// No events are printed but the result.
	system := actor.NewActorSystem()
	near := remote.NewRemote(system, remote.Configure("127.0.0.1", 0))
	near.Start()
	message := &wrapperspb.BytesValue{Value: make([]byte, payload)}

	latencies, err := askInTurn(system, actor.NewPID(peer.address, "echo"), message, asks)
	if err != nil {
		return nil, err
	}
	took, err := sendOneWay(system, actor.NewPID(peer.address, "sink"), message, messages, window)
	if err != nil {
		return nil, err
	}
	receiver, err := peer.stats()
	if err != nil {
		return nil, err
	}
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))].Nanoseconds()) / 1000
	}
	return event{
		"wire": wire, "go": runtime.Version(), "payload_bytes": payload, "window": window,
		"messages": messages, "seconds": took.Seconds(), "messages_per_second": float64(messages) / took.Seconds(),
		"asks": asks, "ask_p50_us": at(0.5), "ask_p99_us": at(0.99),
		"sender_peak_rss_bytes": peakMemory(), "receiver_peak_rss_bytes": receiver,
	}, nil
}

func askInTurn(system *actor.ActorSystem, echo *actor.PID, message any, asks int) ([]time.Duration, error) {
	const warmUp = 1000
	latencies := make([]time.Duration, 0, asks)
	for turn := 0; turn < warmUp+asks; turn++ {
		began := time.Now()
		if err := system.Root.RequestFuture(echo, message, 10*time.Second).Wait(); err != nil {
			return nil, err
		}
		if turn >= warmUp {
			latencies = append(latencies, time.Since(began))
		}
	}
	if len(latencies) == 0 {
		return nil, errors.New("no questions were asked")
	}
	slices.Sort(latencies)
	return latencies, nil
}

// sendOneWay measures until the sink has handled the last message.
func sendOneWay(system *actor.ActorSystem, sink *actor.PID, message any, messages, window int) (time.Duration, error) {
	const patience = 5 * time.Minute
	handled := func() future {
		return system.Root.RequestFuture(sink, wrapperspb.String("count"), patience)
	}
	var mark future
	began := time.Now()
	for sent := 1; sent <= messages; sent++ {
		system.Root.Send(sink, message)
		if window > 1 && sent%(window/2) == 0 {
			if mark != nil {
				if err := mark.Wait(); err != nil {
					return 0, err
				}
			}
			mark = handled()
		}
	}
	reply, err := handled().Result()
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	if count := reply.(*wrapperspb.Int64Value).Value; count != int64(messages) {
		return 0, fmt.Errorf("%d of %d messages arrived", count, messages)
	}
	return took, nil
}

type benchPeer struct {
	process *exec.Cmd
	stdin   io.Writer
	events  *bufio.Scanner
	address string
}

func startPeer() (*benchPeer, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &benchPeer{process: exec.Command(program, "node")}
	p.process.Stderr = os.Stderr
	if p.stdin, err = p.process.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := p.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.events = bufio.NewScanner(output)
	if err = p.process.Start(); err != nil {
		return nil, err
	}
	listening, err := p.next("listening")
	p.address = listening.Address
	return p, err
}

type peerEvent struct {
	Event        string `json:"event"`
	Address      string `json:"address"`
	PeakRSSBytes int64  `json:"peak_rss_bytes"`
}

func (p *benchPeer) next(name string) (peerEvent, error) {
	for p.events.Scan() {
		var e peerEvent
		if err := json.Unmarshal(p.events.Bytes(), &e); err != nil {
			return e, err
		}
		if e.Event == name {
			return e, nil
		}
	}
	return peerEvent{}, errors.New("the other node ended before its event " + name)
}

func (p *benchPeer) stats() (int64, error) {
	if _, err := io.WriteString(p.stdin, `{"do":"stats"}`+"\n"); err != nil {
		return 0, err
	}
	e, err := p.next("done")
	return e.PeakRSSBytes, err
}

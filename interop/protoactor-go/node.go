package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/asynkron/protoactor-go/remote"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

type node struct {
	system *actor.ActorSystem
	remote *remote.Remote
	bursts bursts
}

func runNode(args []string) {
	flags := flag.NewFlagSet("node", flag.ExitOnError)
	host := flags.String("host", "127.0.0.1", "host to listen on")
	port := flags.Int("port", 0, "port to listen on, 0 for any")
	advertise := flags.String("advertise", "", "host:port to give to peers")
	block := flags.String("block", "", "system ids to block, separated by commas")
	retries := flags.Int("retries", 0, "attempts to connect, 0 for protoactor's default")
	certificate := flags.String("tls-cert", "", "PEM file of the certificate, for TLS in both directions")
	key := flags.String("tls-key", "", "PEM file of its key")
	authority := flags.String("tls-ca", "", "PEM file of the certificate that peers are checked against")
	_ = flags.Parse(args)

	var options []remote.ConfigOption
	if *advertise != "" {
		options = append(options, remote.WithAdvertisedHost(*advertise))
	}
	if *certificate != "" {
		secure, err := tlsOptions(*certificate, *key, *authority)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		options = append(options, secure...)
	}
	config := remote.Configure(*host, *port, options...)
	if *retries > 0 {
		config.MaxRetryCount = *retries
	}

	n := startNode(config)
	if *block != "" {
		n.remote.BlockList().Block(strings.Split(*block, ",")...)
	}
	emit(event{"event": "listening", "address": n.system.Address(), "system_id": n.system.ID, "wire": wire})
	n.serve()
}

func startNode(config *remote.Config) *node {
	n := &node{system: actor.NewActorSystem()}
	n.bursts.stop = make(chan struct{})
	subscribe(n.system)
	n.remote = remote.NewRemote(n.system, config)
	for name := range behaviours {
		props, err := propsOf(name)
		if err != nil {
			panic(err)
		}
		n.remote.Register(name, props)
	}
	n.remote.Start()
	for name := range behaviours {
		if err := n.spawn(name, name); err != nil {
			panic(err)
		}
	}
	return n
}

func (n *node) spawn(name, behaviour string) error {
	props, err := propsOf(behaviour)
	if err != nil {
		return err
	}
	pid, err := n.system.Root.SpawnNamed(props, name)
	if err != nil {
		return err
	}
	return n.system.Root.RequestFuture(pid, ready{}, 10*time.Second).Wait()
}

// serve carries out commands until there are no more. A node whose test has died ends with it: no clean-up, as if killed.
func (n *node) serve() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			emit(event{"event": "failed", "error": err.Error()})
			continue
		}
		n.carryOut(&c)
	}
	os.Exit(0)
}

func tlsOptions(certificate, key, authority string) ([]remote.ConfigOption, error) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(authority)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + authority)
	}
	server := credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
	})
	client := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool})
	return []remote.ConfigOption{
		remote.WithServerOptions(grpc.Creds(server)),
		remote.WithDialOptions(grpc.WithTransportCredentials(client)),
	}, nil
}

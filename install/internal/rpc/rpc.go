// Package rpc opens channels of gRPC for probes: to one address, without a proxy,
// a name service of its own, retries or a configuration from the other side.
package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// maxReply bounds an answer in bytes; a real one has no more than a sentence.
const maxReply = 64 << 10

// Dialer makes the connection below a channel.
type Dialer func(ctx context.Context, address string) (net.Conn, error)

// Channel is a channel to address, host:port, in the clear if cfg is nil. dial is
// nil for plain TCP. It talks to nobody before the first call; the caller closes
// it.
func Channel(address string, cfg *tls.Config, dial Dialer) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if cfg != nil {
		creds = credentials.NewTLS(cfg)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
		grpc.WithAuthority(address), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReply)),
	}
	if dial != nil {
		opts = append(opts, grpc.WithContextDialer(dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	return conn, nil
}

// Reason is what gRPC says of an error, without its own wrapping.
func Reason(err error) string {
	s := status.Convert(err)
	return fmt.Sprintf("%s: %s", s.Code(), strings.TrimPrefix(s.Message(), "connection error: "))
}

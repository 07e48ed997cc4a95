package main

import (
	"log"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// names answers DNS queries over UDP at listen, for the names that entries give: each is
// NAME=IPV4. Other names don't exist.
func names(listen string, entries []string) {
	known := make(map[string]netip.Addr)
	for _, entry := range entries {
		name, text, _ := strings.Cut(entry, "=")
		address, err := netip.ParseAddr(text)
		if err != nil || !address.Is4() {
			log.Fatalf("%s is no NAME=IPV4", entry)
		}
		known[strings.ToLower(name)+"."] = address
	}
	socket, err := net.ListenPacket("udp", listen)
	if err != nil {
		log.Fatal(err)
	}
	packet := make([]byte, 4096)
	for {
		length, from, err := socket.ReadFrom(packet)
		if err != nil {
			log.Fatal(err)
		}
		if answer, ok := answered(known, packet[:length]); ok {
			_, _ = socket.WriteTo(answer, from)
		}
	}
}

func answered(known map[string]netip.Addr, packet []byte) ([]byte, bool) {
	var query dnsmessage.Message
	if query.Unpack(packet) != nil || len(query.Questions) != 1 {
		return nil, false
	}
	question := query.Questions[0]
	answer := dnsmessage.Message{
		Header: dnsmessage.Header{ID: query.ID, Response: true, Authoritative: true,
			RecursionDesired: query.RecursionDesired, RecursionAvailable: true},
		Questions: query.Questions,
	}
	address, found := known[strings.ToLower(question.Name.String())]
	switch {
	case !found:
		answer.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA:
		answer.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class, TTL: 5},
			Body:   &dnsmessage.AResource{A: address.As4()},
		}}
	}
	packed, err := answer.Pack()
	return packed, err == nil
}

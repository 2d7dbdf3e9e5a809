// Package shop is the protocol of the quickstart's product service, generated from shop.proto.
package shop

//go:generate go -C ../../../tools run ./protogen

// Lists an archive as Go's archive/tar reads it: type, path, link, size and SHA-256 of each entry.
package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

func list(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	packed, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	archive := tar.NewReader(packed)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		sum := sha256.New()
		size, err := io.Copy(sum, archive)
		if err != nil {
			return err
		}
		fmt.Printf("%c %s %q %d %x\n", header.Typeflag, header.Name, header.Linkname, size, sum.Sum(nil)[:8])
	}
}

func main() {
	for _, path := range os.Args[1:] {
		fmt.Println("==", path)
		if err := list(path); err != nil {
			fmt.Println("error")
		}
	}
}

module image-locality-sdk-go

go 1.24

require github.com/mistletoe-rs/mistletoe/guest/go v0.0.0

replace github.com/mistletoe-rs/mistletoe/guest/go => ../../../guest/go

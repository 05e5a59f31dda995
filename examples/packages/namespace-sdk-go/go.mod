module namespace-sdk-go

go 1.24

require github.com/mistletoe-rs/mistletoe/guest/go v0.0.0

require go.yaml.in/yaml/v4 v4.0.0 // indirect

replace github.com/mistletoe-rs/mistletoe/guest/go => ../../../guest/go

module github.com/mistletoe-rs/mistletoe/guest/go

go 1.24

require go.yaml.in/yaml/v4 v4.0.0

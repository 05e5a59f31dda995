module cgi-go

go 1.24

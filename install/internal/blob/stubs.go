package blob

import "context"

func openGCS(context.Context, Config) (*Service, error) {
	return nil, &ConfigError{Field: "type", Text: "later"}
}
func openAzure(context.Context, Config) (*Service, error) {
	return nil, &ConfigError{Field: "type", Text: "later"}
}

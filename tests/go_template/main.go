// Prints templates as Ollama does: Go's text/template with the variables of a template that names .Messages.
//
// Reads [{"template": ..., "messages": [{"role": ..., "content": ...}]}], writes [{"text": ..., "error": ...}].
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct{ Role, Content string }

type asked struct {
	Template string
	Messages []message
}

type printed struct {
	Text  string `json:"text"`
	Error string `json:"error"`
}

// variables are the system turns joined, and the turns with neighbours of one role joined.
func variables(messages []message) map[string]any {
	var system []string
	var turns []*message
	for i := range messages {
		turn := messages[i]
		if turn.Role == "system" {
			system = append(system, turn.Content)
		}
		if last := len(turns) - 1; last >= 0 && turns[last].Role == turn.Role {
			turns[last].Content += "\n\n" + turn.Content
			continue
		}
		turns = append(turns, &turn)
	}
	return map[string]any{"System": strings.Join(system, "\n\n"), "Messages": turns, "Tools": nil, "Response": ""}
}

func render(one asked) printed {
	parsed, err := template.New("").Option("missingkey=zero").Parse(one.Template)
	if err != nil {
		return printed{Error: err.Error()}
	}
	var text strings.Builder
	if err := parsed.Execute(&text, variables(one.Messages)); err != nil {
		return printed{Error: err.Error()}
	}
	return printed{Text: text.String()}
}

func main() {
	var all []asked
	if err := json.NewDecoder(os.Stdin).Decode(&all); err != nil {
		panic(err)
	}
	found := make([]printed, 0, len(all))
	for _, one := range all {
		found = append(found, render(one))
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		panic(err)
	}
}
